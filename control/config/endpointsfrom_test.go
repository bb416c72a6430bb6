package config

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

func fromDocument(from string) string {
	return "version: 1\nservices:\n  a: {endpointsFrom: " + from + "}\n"
}

func TestEndpointsFrom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		from, shown string
		want        EndpointsFrom
	}{
		{"{file: e.txt}", "file " + filepath.Join(dir, "e.txt"),
			EndpointsFrom{Scheme: "http", File: filepath.Join(dir, "e.txt")}},
		{"{scheme: h2c, dns: {name: a.internal, port: 80}}", "dns a.internal:80",
			EndpointsFrom{Scheme: "h2c", DNS: &EndpointsFromDNS{Name: "a.internal", Port: 80}}},
		{"{dns: {name: _http._tcp.a.internal., srv: true}}", "dns _http._tcp.a.internal. (SRV)",
			EndpointsFrom{Scheme: "http", DNS: &EndpointsFromDNS{Name: "_http._tcp.a.internal.", SRV: true}}},
		{"{kubernetes: {service: s, namespace: n, port: http}}", "kubernetes n/s:http",
			EndpointsFrom{Scheme: "http", Kubernetes: &EndpointsFromKubernetes{Service: "s", Namespace: "n",
				Port: KubernetesPort{Name: "http"}, API: "https://kubernetes.default.svc",
				Token: "/var/run/secrets/kubernetes.io/serviceaccount/token",
				CA:    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"}}},
		{"{kubernetes: {service: s, namespace: n, port: 8080, api: 'https://k:6443', token: t, ca: c}}",
			"kubernetes n/s:8080", EndpointsFrom{Scheme: "http", Kubernetes: &EndpointsFromKubernetes{Service: "s",
				Namespace: "n", Port: KubernetesPort{Number: 8080}, API: "https://k:6443",
				Token: filepath.Join(dir, "t"), CA: filepath.Join(dir, "c")}}},
		{"{kubernetes: {service: s, namespace: n, port: '80', api: 'http://127.0.0.1:8001'}}", "kubernetes n/s:80",
			EndpointsFrom{Scheme: "http", Kubernetes: &EndpointsFromKubernetes{Service: "s", Namespace: "n",
				Port: KubernetesPort{Number: 80}, API: "http://127.0.0.1:8001"}}},
	} {
		cfg := mustParseDocument(t, fromDocument(c.from), dir)
		from := cfg.Services["a"].EndpointsFrom
		expect(t, c.from, from, &c.want)
		expect(t, "in a line", from.String(), c.shown)
		if files := cfg.Files(); len(files) != 0 {
			t.Errorf("%s: %v are watched like the configuration, which would be reloaded at each change", c.from, files)
		}
		b, err := cfg.Redacted()
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "what is shown of "+c.from, mustParseDocument(t, string(b), "").Services["a"].EndpointsFrom, from)
	}
	var port KubernetesPort
	if err := json.Unmarshal([]byte(`"http"`), &port); err != nil || port.Name != "http" {
		t.Errorf("a port reads as %+v, %v", port, err)
	}
}

func TestEndpointsFromFaults(t *testing.T) {
	t.Parallel()
	const kube = "{kubernetes: {service: s, namespace: n, port: 80, "
	for _, c := range []struct {
		from string
		want []string
	}{
		{"{}", []string{"endpointsFrom: is none of file, dns and kubernetes"}},
		{"{file: a, dns: {name: n, port: 1}}", []string{
			"endpointsFrom.dns: endpoints come from exactly one of file, dns and kubernetes, and file stands here " +
				"too"}},
		{"{file: 'https://a/b'}", []string{`endpointsFrom.file: "https://a/b" is not a file`}},
		{"{file: a, scheme: ftp}", []string{`endpointsFrom.scheme: "ftp" is not http, https or h2c`}},
		{"{files: a}", []string{"endpointsFrom: is none of file, dns and kubernetes",
			`endpointsFrom.files: unknown key (did you mean "file"?)`}},
		{"{dns: {name: a.b}}", []string{"endpointsFrom.dns: needs a port, or srv: true"}},
		{"{dns: {name: a.b, port: 0}}", []string{"endpointsFrom.dns.port: 0 is less than 1"}},
		{"{dns: {name: a.b, port: 65536}}", []string{"endpointsFrom.dns.port: 65536 is more than 65535"}},
		{"{dns: {name: a.b, port: 1, srv: true}}", []string{
			"endpointsFrom.dns.port: the port comes from the SRV records"}},
		{"{dns: {name: 10.0.0.1, port: 1}}", []string{
			`endpointsFrom.dns.name: "10.0.0.1" is an address: write it in endpoints`}},
		{"{dns: {name: 'a b', port: 1}}", []string{`endpointsFrom.dns.name: "a b" is not a name in DNS`}},
		{"{kubernetes: {}}", []string{"endpointsFrom.kubernetes.namespace: is missing",
			"endpointsFrom.kubernetes.port: is missing", "endpointsFrom.kubernetes.service: is missing"}},
		{"{kubernetes: {service: S, namespace: a/b, port: a_b}}", []string{
			`endpointsFrom.kubernetes.service: "S" is not a name of Kubernetes: a-z, 0-9 and dashes within it`,
			`endpointsFrom.kubernetes.namespace: "a/b" is not a name of Kubernetes: a-z, 0-9 and dashes within it`,
			`endpointsFrom.kubernetes.port: "a_b" is not ` + wantKubernetesPort}},
		{"{kubernetes: {service: s, namespace: n, port: 70000}}", []string{
			`endpointsFrom.kubernetes.port: "70000" is not ` + wantKubernetesPort}},
		{kube + "api: 'http://k:8001'}}", []string{`endpointsFrom.kubernetes.api: "http://k:8001" is spoken to over ` +
			"https only, unless it is this machine: a token goes there, and endpoints come from there"}},
		{kube + "api: 'http://127.0.0.1:1', token: t}}", []string{
			"endpointsFrom.kubernetes.token: travels over https only, and api is http"}},
		{kube + "api: 'http://127.0.0.1:1', ca: c}}", []string{
			"endpointsFrom.kubernetes.ca: is for https, and api is http"}},
		{kube + "api: 'ftp://k'}}", []string{`endpointsFrom.kubernetes.api: "ftp://k" is fetched over https only: ` +
			"what comes in cleartext may be anybody's"}},
		{kube + "api: 'https://u:p@k'}}", []string{
			"endpointsFrom.kubernetes.api: the URL has credentials before its host: leave them out"}},
		{kube + "api: 'https://k?a=b'}}", []string{
			`endpointsFrom.kubernetes.api: "https://k?a=b" has a query, and an API server's URL has none`}},
		{"{file: f}, endpoints: ['http://h']", []string{
			"endpoints: a service has exactly one of endpoints and endpointsFrom, and endpointsFrom stands here too"}},
		{"{dns: {name: n, port: 1}}, tls: {serverName: a}", []string{
			"tls: is for https:// endpoints, and this service has none"}},
		{"{scheme: https, dns: {name: n, port: 1}}, tls: {serverName: a}", nil},
		{"{file: f}, tls: {serverName: a}", nil},
		{"{file: f}, outlier: {max: 10%}", nil},
	} {
		var got []string
		for _, fault := range faultsOf(t, fromDocument(c.from)) {
			_, fault, _ = strings.Cut(fault, ": services.a.")
			got = append(got, fault)
		}
		expect(t, "faults of "+c.from, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
	}
	expect(t, "warnings", len(warningsIn(t, fromDocument("{file: f}, outlier: {max: 10%}"))), 1) // nothing uses it
}

func TestFoundEndpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme, written, host string
		want                  Endpoint
		fails                 bool
	}{
		{"http", "10.0.0.1:80", "", Endpoint{Network: "tcp", Address: "10.0.0.1:80", Host: "10.0.0.1:80"}, false},
		{"https", "[2001:db8::1]:443", "a.internal:443",
			Endpoint{Network: "tcp", Address: "[2001:db8::1]:443", Host: "a.internal:443", TLS: true}, false},
		{"h2c", "10.0.0.1:80", "", Endpoint{Network: "tcp", Address: "10.0.0.1:80", Host: "10.0.0.1:80", HTTP2: true},
			false},
		{"http", "[fe80::1%eth0]:80", "", Endpoint{}, true},
		{"http", "10.0.0.1:0", "", Endpoint{}, true},
		{"http", "10.0.0.1:80/path", "", Endpoint{}, true},
		{"http", "u@10.0.0.1:80", "", Endpoint{}, true},
	} {
		got, err := (&EndpointsFrom{Scheme: c.scheme}).Endpoint(c.written, c.host)
		if (err != nil) != c.fails || got != c.want {
			t.Errorf("%s %s: %+v, %v", c.scheme, c.written, got, err)
		}
	}
	from := &EndpointsFrom{Scheme: "https"}
	for written, want := range map[string]Endpoint{
		"h2c://h:1":      {Network: "tcp", Address: "h:1", Host: "h:1", HTTP2: true},
		"h:1":            {Network: "tcp", Address: "h:1", Host: "h:1", TLS: true},
		"h":              {Network: "tcp", Address: "h:443", Host: "h", TLS: true},
		"unix:///run/a":  {Network: "unix", Address: "/run/a", Host: "localhost"},
		"unix:relative":  {},
		"ftp://h":        {},
		"":               {},
		"http://h:1/way": {},
	} {
		if got, err := from.ParseEndpoint(written); got != want || (err == nil) != (want != Endpoint{}) {
			t.Errorf("%q: %+v, %v", written, got, err)
		}
	}
}

package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tcp := func(address, host string) Endpoint { return Endpoint{Network: "tcp", Address: address, Host: host} }
	for written, want := range map[string]Endpoint{
		"http://127.0.0.1:7001":  tcp("127.0.0.1:7001", "127.0.0.1:7001"),
		"http://order":           tcp("order:80", "order"),
		"http://order_1.shop:80": tcp("order_1.shop:80", "order_1.shop:80"),
		"http://[::1]:7001":      tcp("[::1]:7001", "[::1]:7001"),
		"http://[2001:db8::1]":   tcp("[2001:db8::1]:80", "[2001:db8::1]"),
		"h2c://grpc":             {Network: "tcp", Address: "grpc:80", Host: "grpc", HTTP2: true},
		"h2c://[::1]:50051":      {Network: "tcp", Address: "[::1]:50051", Host: "[::1]:50051", HTTP2: true},
		"https://pay.example":    {Network: "tcp", Address: "pay.example:443", Host: "pay.example", TLS: true},
		"https://[::1]:8443":     {Network: "tcp", Address: "[::1]:8443", Host: "[::1]:8443", TLS: true},
		"unix:///run/app.sock":   {Network: "unix", Address: "/run/app.sock", Host: "localhost"},
		"unix:/run/../app.sock":  {Network: "unix", Address: "/app.sock", Host: "localhost"},
		"unix:app.sock":          {Network: "unix", Address: filepath.Join(dir, "app.sock"), Host: "localhost"},
		"unix:@app":              {Network: "unix", Address: filepath.Join(dir, "@app"), Host: "localhost"},
	} {
		c := mustParseDocument(t, fmt.Sprintf("version: 1\nservices: {s: {endpoints: [%q]}}\n", written), dir)
		expect(t, written, c.Services["s"].ParsedEndpoints(), []Endpoint{want})
	}
}

func TestEndpointFaults(t *testing.T) {
	t.Parallel()
	const no = "is not an endpoint such as http://127.0.0.1:7001"
	const host = no + ": the host is a name, an IPv4 address or an IPv6 address in brackets, without a zone"
	const socket = "is not a socket such as unix:///run/app.sock, or unix:app.sock in the configuration's folder"
	for written, want := range map[string]string{
		"":                                   no,
		"h":                                  no,
		"h:80":                               no,
		"//h":                                no,
		"http:h":                             no,
		"http:///x":                          no,
		"http://h:":                          no,
		"http://:80":                         no,
		"http://h:x":                         no,
		"http://h\x00":                       no,
		"http://::1:80":                      no,
		"http://[::1":                        no,
		"grpc://h":                           no + ": the scheme is http, https, h2c or unix",
		"unix://h/s":                         socket,
		"unix:":                              socket,
		"unix://":                            socket,
		"unix:///":                           socket,
		"http://h:65536":                     no + ": the port is 1 to 65535",
		"http://h:0080":                      no + ": the port is 1 to 65535",
		"https://u:p@h":                      no + ": host and port only",
		"h2c://h?":                           no + ": host and port only",
		"h2c://h?a=b":                        no + ": host and port only",
		"http://h#":                          no + ": host and port only",
		"https://h/":                         no + ": a path is not part of it",
		"http://[fe80::1%25a]":               host,
		"http://[127.0.0.1]":                 no,
		"http://a%41b":                       no,
		"http://käse":                        host,
		"http://a,b":                         host,
		"http://" + strings.Repeat("a", 254): host,
		"unix:///a?b":                        "is a socket, whose path has no ?, #, % and no control character",
		"unix:///a%20b":                      "is a socket, whose path has no ?, #, % and no control character",
		"unix:///a\nb":                       "is a socket, whose path has no ?, #, % and no control character",
		"unix:///" + strings.Repeat("a", 107): "is a socket whose path has 108 bytes, at most 107 can be " +
			"connected to",
	} {
		if e, err := parseEndpoint(written); err == nil || err.Error() != want {
			t.Errorf("%q is %+v, %v; want %s", written, e, err, want)
		}
	}
}

// What is not sound is left out and never handed on as an empty endpoint.
func TestParsedEndpointsOfFaulty(t *testing.T) {
	t.Parallel()
	s := Service{Endpoints: []string{"ftp://h", "http://h"}}
	expect(t, "endpoints", s.ParsedEndpoints(), []Endpoint{{Network: "tcp", Address: "h:80", Host: "h"}})
}

func TestHealthDefaults(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services:
  none: {endpoints: ["http://h"]}
  plain: {endpoints: ["http://h"], health: {path: /healthz}}
  quick: {endpoints: ["http://h"], health: {path: "/a/b%20c/?deep=1&x=/../", every: 200ms}}
  written: {endpoints: ["http://h"], health: {path: /, every: 1m, timeout: 1m}}
`, "")
	if c.Services["none"].Health != nil {
		t.Error("no service is asked unless that is written")
	}
	for name, want := range map[string]Health{
		"plain":   {"/healthz", Duration(2 * time.Second), Duration(time.Second)},
		"quick":   {"/a/b%20c/?deep=1&x=/../", Duration(200 * time.Millisecond), Duration(200 * time.Millisecond)},
		"written": {"/", Duration(time.Minute), Duration(time.Minute)},
	} {
		expect(t, name, *c.Services[name].Health, want)
	}
}

func TestKeepAliveDefaults(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, `version: 1
services:
  plain: {endpoints: ["http://h"]}
  young: {endpoints: ["http://h"], keepAlive: {maxAge: 30s}, dns: 1s}
  written: {endpoints: ["http://h"], keepAlive: {idle: 4s, maxAge: 1h}}
`, "")
	second := Duration(time.Second)
	for name, want := range map[string]KeepAlive{
		"plain": {55 * second, 300 * second}, "young": {30 * second, 30 * second}, "written": {4 * second, 3600 * second},
	} {
		expect(t, name, c.Services[name].KeepAlive, want)
	}
	expect(t, "dns", c.Services["plain"].DNS, 5*second)
	expect(t, "dns", c.Services["young"].DNS, second)
}

func TestTargetFaults(t *testing.T) {
	t.Parallel()
	const character = `has a character that a path has only escaped (%20, in capitals), or not at all (; and \)`
	for target, want := range map[string]string{
		"":           "has to begin with /",
		"health":     "has to begin with /",
		"?a":         "has to begin with /",
		"http://h/":  "has to begin with /",
		"//h/x":      "has an empty segment, and no request's path has one",
		"/a//b":      "has an empty segment, and no request's path has one",
		"/a/./b":     "has the segment ., and no request's path has one",
		"/a/..":      "has the segment .., and no request's path has one",
		"/a/..?b":    "has the segment .., and no request's path has one",
		"/a#b":       "has a fragment, and a request has none",
		"/a?b#":      "has a fragment, and a request has none",
		"/a b":       character,
		"/a\r\nX: y": character,
		"/a;b":       character,
		`/a\b`:       character,
		"/ä":         character,
		"/a%2":       character,
		"/a%c3":      character,
		"/%2E%2E":    "has %2E: write the character itself",
		"/a%41":      "has %41: write the character itself",
		"/a%2Fb":     "has %2F, and no request's path has it",
		"/a%00":      "has %00, and no request's path has it",
		"/a%5C":      "has %5C, and no request's path has it",
		"/a?b c":     "has a character in its query that has to be escaped",
		"/a?b\r\n":   "has a character in its query that has to be escaped",
		"/a?ä":       "has a character in its query that has to be escaped",
		"/a/%C3%A4/": "",
		"/a?b=%zz;c": "",
		"/~a.b_c-d":  "",
	} {
		if got := targetFault(target); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

func TestServiceFaults(t *testing.T) {
	runFaultCases(t, []faultCase{
		{"times", `version: 1
services: {a: {endpoints: ["http://h"], streamIdleTimeout: 0s}}
routes:
  - {name: a, match: {path: /a}, service: a, timeout: 0s}
  - {name: b, match: {path: /b}, respond: {status: 204}, timeout: 3s}
`, []string{
			`2:60: services.a.streamIdleTimeout: "0s" is less than 1ms`,
			`4:55: routes[0].timeout: "0s" is less than 1ms`,
			"5:67: routes[1].timeout: 3s is in place of a service's, and the route leads to none"}},
		{"health", `version: 1
services:
  a: {endpoints: ["http://h"], health: {}}
  b: {endpoints: ["http://h"], health: {path: health, every: 50ms}}
  c: {endpoints: ["http://h"], health: {path: /, timeout: 3s}}
  d: {endpoints: ["http://h"], health: {path: /, every: 1s, timeout: 1001ms, port: 80}}
  e: {endpoints: ["http://h"], health: /}
  f: {endpoints: ["http://h"], health: {path: /, timeout: 0s}}
`, []string{
			"3:32: services.a.health.path: is missing",
			`4:47: services.b.health.path: "health" has to begin with /`,
			`4:62: services.b.health.every: "50ms" is less than 100ms`,
			"5:59: services.c.health.timeout: timeout 3s is more than every 2s",
			"6:70: services.d.health.timeout: timeout 1001ms is more than every 1s",
			"6:78: services.d.health.port: unknown key",
			`7:40: services.e.health: "/" is not a mapping`,
			`8:59: services.f.health.timeout: "0s" is less than 1ms`}},
		{"mixed", `version: 1
services:
  a: {endpoints: ["http://h", "https://h", "unix:s.sock"]}
  b: {endpoints: ["h2c://h", "h2c://g", "http://h"]}
  c: {endpoints: ["ftp://h", "https://h", "h2c://h"]}
  d: {endpoints: ["h2c://h", "unix:///s.sock"]}
`, []string{
			`4:41: services.b.endpoints[2]: "http://h" is HTTP/1.1, and endpoints[0] is HTTP/2 (h2c): a service ` +
				`speaks one of them`,
			`5:19: services.c.endpoints[0]: "ftp://h" is not an endpoint such as http://127.0.0.1:7001: the ` +
				`scheme is http, https, h2c or unix`,
			`6:30: services.d.endpoints[1]: "unix:///s.sock" is HTTP/1.1, and endpoints[0] is HTTP/2 (h2c): a ` +
				`service speaks one of them`}},
		{"keepAlive and dns", `version: 1
services:
  a: {endpoints: ["http://h"], dns: 99ms, keepAlive: {idle: 99ms, maxAge: 999ms}}
  b: {endpoints: ["http://h"], dns: 61m, keepAlive: {idle: 25h, maxAge: 25h}}
  c: {endpoints: ["http://h"], keepAlive: {idle: 61s, maxAge: 1m}}
  d: {endpoints: ["http://h"], keepAlive: {idle: 6m}}
  e: {endpoints: ["http://h"], keepAlive: 55s}
  f: {endpoints: ["http://h"], keepAlive: {age: 55s}, dns: off}
`, []string{
			`3:37: services.a.dns: "99ms" is less than 100ms`,
			`3:61: services.a.keepAlive.idle: "99ms" is less than 100ms`,
			`3:75: services.a.keepAlive.maxAge: "999ms" is less than 1s`,
			`4:37: services.b.dns: "61m" is more than 1h`,
			`4:60: services.b.keepAlive.idle: "25h" is more than 24h`,
			`4:73: services.b.keepAlive.maxAge: "25h" is more than 24h`,
			`5:50: services.c.keepAlive.idle: idle 61s is more than maxAge 1m`,
			`6:50: services.d.keepAlive.idle: idle 6m is more than maxAge 5m`,
			`7:43: services.e.keepAlive: "55s" is not a mapping`,
			`8:44: services.f.keepAlive.age: unknown key`,
			`8:60: services.f.dns: "off" is not a duration such as 250ms, 10s or 24h`}},
		{"tls", `version: 1
services:
  a: {endpoints: ["http://h"], tls: {}}
  b: {endpoints: ["ftp://h"], tls: {}}
  c: {endpoints: ["https://h"], tls: {ca: none.pem, cert: none.pem, serverName: "a b"}}
  d: {endpoints: ["https://h"], tls: {key: none.pem, ca: ""}}
  e: {endpoints: ["https://h"], tls: true}
  f: {endpoints: ["https://h", "http://h"], tls: {serverName: "::1", insecure: true}}
  g: {endpoints: ["https://h"], tls: {serverName: "h:443"}}
`, []string{
			"3:32: services.a.tls: is for https:// endpoints, and this service has none",
			`4:19: services.b.endpoints[0]: "ftp://h" is not an endpoint such as http://127.0.0.1:7001: the ` +
				`scheme is http, https, h2c or unix`,
			"5:43: services.c.tls.ca: cannot read DIR/none.pem: no such file or directory",
			"5:59: services.c.tls.cert: cannot read DIR/none.pem: no such file or directory",
			`5:81: services.c.tls.serverName: "a b" is neither a host's name nor an address`,
			"6:44: services.d.tls.key: cannot read DIR/none.pem: no such file or directory",
			"6:58: services.d.tls.ca: is empty",
			`7:38: services.e.tls: true is not a mapping`,
			"8:70: services.f.tls.insecure: unknown key",
			`9:51: services.g.tls.serverName: "h:443" is neither a host's name nor an address`}},
	})
}

func TestServiceTLS(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"ca.crt": "ca", "own.crt": "cert", "own.key": "key"})
	c := mustParseDocument(t, `version: 1
services:
  pay: {endpoints: ["https://h"], tls: {ca: ca.crt, serverName: pay.example, cert: own.crt, key: own.key}}
`, dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	expect(t, "tls", *c.Services["pay"].TLS, ServiceTLS{in("ca.crt"), "pay.example", in("own.crt"), in("own.key")})
	expect(t, "watched files", c.Files(), []string{in("ca.crt"), in("own.crt"), in("own.key")})

	got := faultsOf(t, "version: 1\nservices: {s: {endpoints: ['https://h'], tls: {cert: "+in("own.crt")+"}}}\n")
	expect(t, "cert alone", got, []string{"2:54: services.s.tls.cert: needs key beside it"})
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	c := mustParseDocument(t, "version: 1\nlisten: {proxyProtocol: [10.1.2.3/8, \"::1\"]}\n", "")
	expect(t, "proxyProtocol", c.Listen.ProxyProtocol, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("::1/128")})
	if c := mustParseDocument(t, "version: 1\n", ""); c.Listen.ProxyProtocol != nil {
		t.Errorf("nobody speaks it unless that is written: %v", c.Listen.ProxyProtocol)
	}
}

// What is shown of services loads from another folder as the same services.
func TestRedactedServices(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"ca.crt": "ca", "host": "hush.example\n"})
	const document = `version: 1
listen: {proxyProtocol: [10.0.0.0/8]}
services:
  a: {endpoints: ["unix:a.sock", "https://h"], tls: {ca: ca.crt}, health: {path: "/h?x=1", every: 300ms}}
  b: {endpoints: ["https://h"], tls: {}}
`
	c := mustParseDocument(t, document, dir)
	shown, err := c.Redacted()
	if err != nil {
		t.Fatal(err)
	}
	again := mustParseDocument(t, string(shown), t.TempDir())
	again.origin, again.Store = c.origin, c.Store
	if !reflect.DeepEqual(c, again) {
		t.Errorf("loaded again it is another:\n%s", shown)
	}

	c = mustParseDocument(t, "version: 1\nservices: {s: {endpoints: ['https://${file:host}'], tls: {serverName: "+
		"'${file:host}'}}}\n", dir)
	if shown, err = c.Redacted(); err != nil || strings.Contains(string(shown), "hush") {
		t.Errorf("%v, a secret in what is shown:\n%s", err, shown)
	}
	for _, faulty := range []string{
		"version: 1\nservices: {s: {endpoints: ['https://${file:host}/']}}\n",
		"version: 1\nservices: {s: {endpoints: ['h2c://${file:host}', 'http://${file:host}']}}\n",
		"version: 1\nservices: {s: {endpoints: ['https://h'], tls: {serverName: '${file:host}:1'}}}\n",
		"version: 1\nservices: {s: {endpoints: ['https://h'], health: {path: '${file:host}'}}}\n",
	} {
		if _, err := Parse("t.yaml", []byte(faulty), dir); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want a fault without the secret", faulty, err)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"http://h:80", "h2c://[::1]:50051", "https://pay.example",
		"unix:///run/app.sock", "http://u:p@h/?#", "http://[fe80::1%25a]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint(s)
		if err != nil {
			return
		}
		if e.Network == "unix" {
			if !filepath.IsAbs(e.Address) || e.TLS || e.HTTP2 {
				t.Fatalf("%q is %+v", s, e)
			}
			return
		}
		host, port, err := net.SplitHostPort(e.Address)
		if err != nil || host == "" || !soundPort(port) || port == "0" || e.Network != "tcp" || e.TLS && e.HTTP2 {
			t.Fatalf("%q is %+v", s, e)
		}
		u, err := url.Parse("http://" + e.Host)
		if err != nil || u.Host != e.Host || u.Hostname() != host || strings.ContainsAny(e.Host, " \t\r\n/?#@%") {
			t.Fatalf("%q has the host %q, and its address is %s", s, e.Host, e.Address)
		}
	})
}

// What is asked for goes out as it is written.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/healthz", "/a/b%20c/?deep=1&x=/../", "/a/../b", "/%2e", "//h", "/a?b#c", "/a?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if targetFault(s) != "" {
			return
		}
		u, err := url.ParseRequestURI(s)
		if err != nil || u.RequestURI() != s || u.Host != "" || strings.ContainsAny(s, " \t\r\n\x00") {
			t.Fatalf("%q is asked for as %v, %v", s, u, err)
		}
	})
}

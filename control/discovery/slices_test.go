package discovery

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

func ofKubernetes(port config.KubernetesPort) *config.EndpointsFrom {
	return &config.EndpointsFrom{Scheme: "http",
		Kubernetes: &config.EndpointsFromKubernetes{Service: "s", Namespace: "n", Port: port}}
}

// TestSlicesAreMerged: what of the slices of a service becomes an endpoint.
func TestSlicesAreMerged(t *testing.T) {
	t.Parallel()
	const ports = `"ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": 80, "protocol": "TCP"},
		{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "any", "port": null}]`
	http, number := config.KubernetesPort{Name: "http"}, config.KubernetesPort{Number: 80}
	for _, c := range []struct {
		name, slices string
		port         config.KubernetesPort
		want, note   string
	}{
		{"ready, where it is not written too", `[{"endpoints": [
			{"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}},
			{"addresses": ["10.0.0.2"], "conditions": {}}, {"addresses": ["10.0.0.3"]}], ` + ports + `}]`,
			http, "[10.0.0.1:80 10.0.0.2:80 10.0.0.3:80]", ""},
		{"unready and terminating", `[{"endpoints": [
			{"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
			{"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
			{"addresses": ["10.0.0.3"], "conditions": {"ready": true, "terminating": true}},
			{"addresses": [], "conditions": {"ready": true}}], ` + ports + `}]`, http, "[]", ""},
		{"several slices, an endpoint in two of them", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], ` + ports + `},
			{"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}], ` + ports + `}]`,
			number, "[10.0.0.1:80 10.0.0.1:80 10.0.0.2:80]", ""},
		{"a pod that is in two slices", `[{"endpoints": [
			{"addresses": ["10.0.0.1"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "uid": "u"}}],
			` + ports + `}, {"endpoints": [{"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "u"}}],
			` + ports + `}]`, http, "[10.0.0.1:80]", ""},
		{"both families of a pod, and one that has IPv6 alone", `[{"addressType": "IPv6", "endpoints": [
			{"addresses": ["2001:db8::1"], "targetRef": {"kind": "Pod", "uid": "u"}},
			{"addresses": ["2001:db8::2"], "targetRef": {"kind": "Pod", "uid": "v"}},
			{"addresses": ["2001:db8::3"]}], ` + ports + `},
			{"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"],
			"targetRef": {"kind": "Pod", "uid": "u"}}], ` + ports + `}]`, http,
			"[10.0.0.1:80 [2001:db8::2]:80 [2001:db8::3]:80]", ""},
		{"of several addresses the first", `[{"endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"]}], ` + ports + `}]`,
			http, "[10.0.0.1:80]", ""},
		{"zones, nodes and hints", `[{"endpoints": [{"addresses": ["10.0.0.1"], "zone": "a", "nodeName": "x",
			"hints": {"forZones": [{"name": "b"}]}}], ` + ports + `}]`, http, "[10.0.0.1:80]", ""},
		{"names instead of addresses",
			`[{"addressType": "FQDN", "endpoints": [{"addresses": ["a.b"]}], ` + ports + `}]`, http, "[]", ""},
		{"what is no address", `[{"endpoints": [{"addresses": ["10.0.0.1/24"]}, {"addresses": ["fe80::1%eth0"]},
			{"addresses": ["10.0.0.2"]}], ` + ports + `}]`, http, "[10.0.0.2:80]", "has an address that is none"},
		{"a port of another protocol", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], ` + ports + `}]`,
			config.KubernetesPort{Name: "dns"}, "[]",
			"no TCP port dns (that of the endpoints); it has: metrics=9, http=80"},
		{"a port that is none", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "port": 8080}]}]`,
			number, "[]", "has no TCP port 80 (that of the endpoints); it has: 8080"},
		{"a port without a name", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "port": 80}]}]`,
			number, "[10.0.0.1:80]", ""},
		{"all ports", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "", "port": null}]}]`,
			number, "[10.0.0.1:80]", ""},
		{"the name of all ports", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], ` + ports + `}]`,
			config.KubernetesPort{Name: "any"}, "[]", "no TCP port any"},
		{"a slice that is empty, without ports", `[{"endpoints": null, "ports": null}]`, http, "[]", ""},
		{"different numbers of one name", `[{"endpoints": [{"addresses": ["10.0.0.1"]}], ` + ports + `},
			{"endpoints": [{"addresses": ["10.0.0.2"]}], "ports": [{"name": "http", "port": 8080}]}]`,
			http, "[10.0.0.1:80 10.0.0.2:8080]", ""},
		{"none", `[]`, http, "[]", "there is no EndpointSlice of service s in namespace n"},
	} {
		var list []*endpointSlice
		if err := json.Unmarshal([]byte(c.slices), &list); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		all := map[string]*endpointSlice{}
		for i, s := range list {
			all[fmt.Sprint("slice-", i)] = s
		}
		r := new(record)
		r.found(merge(ofKubernetes(c.port), all))
		if fmt.Sprint(r.list) != c.want {
			t.Errorf("%s: %v, want %s", c.name, r.list, c.want)
		}
		if (r.note == "") != (c.note == "") || !strings.Contains(r.note, c.note) {
			t.Errorf("%s: note %q, want %q", c.name, r.note, c.note)
		}
		for _, host := range r.hosts {
			if !strings.HasPrefix(host, "s.n.svc:") {
				t.Errorf("%s: host %s", c.name, host)
			}
		}
	}
}

package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/kubeapi"
	"github.com/sluice-gateway/sluice/control/discovery"
)

func awaitThat(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// discovery returns what the status says of the sources of endpoints.
func (g *running) discovery() []discovery.Status {
	g.t.Helper()
	var status struct{ Discovery []discovery.Status }
	body := fetch(g.t, "http://"+g.at.Admin+"/api/status", "GET", "").body
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		g.t.Fatal(err)
	}
	return status.Discovery
}

// TestEndpointsFromAFile: endpoints change without a reload, none at all is a refusal as that of a name without an
// address, and a file that is gone changes nothing.
func TestEndpointsFromAFile(t *testing.T) {
	t.Parallel()
	one, two := newCountedService(t), newCountedService(t)
	path := filepath.Join(t.TempDir(), "endpoints")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(one.URL)
	g := start(t, head+"services: {a: {endpointsFrom: {file: "+path+"}, retries: {attempts: 0}}}\n"+
		"routes: [{name: a, match: {path: /a}, service: a}]\n")
	if got := g.do("GET", "/a", ""); got.status != 200 || one.requests.Load() != 1 {
		t.Fatalf("the first request gets %d, %s", got.status, got.body)
	}
	put(two.URL)
	awaitThat(t, "the other endpoint is used", func() bool {
		if got := g.do("GET", "/a", ""); got.status != 200 {
			t.Fatalf("a request in between gets %d, %s", got.status, got.body)
		}
		return two.requests.Load() > 0
	})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, "the fault is shown", func() bool {
		all := g.discovery()
		return len(all) == 1 && strings.Contains(all[0].Fault, "no such file") && all[0].Endpoints == 1
	})
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Errorf("without the file a request gets %d, %s", got.status, got.body)
	}
	if up := g.metric(`sluice_discovery_up{service="a"}`); up != 0 {
		t.Errorf("the metric says %v", up)
	}
	put("[]")
	awaitThat(t, "there is no endpoint", func() bool { return g.do("GET", "/a", "").status != 200 })
	if got := g.do("GET", "/a", ""); got.status != 502 || got.reason() != "upstream-unreachable" {
		t.Errorf("without endpoints a request gets %d %s", got.status, got.reason())
	}
	put(one.URL)
	awaitThat(t, "it is back", func() bool { return g.do("GET", "/a", "").status == 200 })
	if n := g.metric(`sluice_config_reloads_total{result="applied"}`); n > 0 {
		t.Errorf("the configuration was reloaded %v times", n)
	}
}

// TestEndpointsFromACluster: a gateway follows a Kubernetes service, also while the API is gone.
func TestEndpointsFromACluster(t *testing.T) {
	t.Parallel()
	service, api := newCountedService(t), kubeapi.Start(t)
	_, text, err := net.SplitHostPort(service.endpoint.Address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	slice := kubeapi.Slice{Name: "order-1", Namespace: "shop", Service: "order",
		Ports: []kubeapi.Port{{Name: "http", Number: port}}, Endpoints: kubeapi.Ready("127.0.0.1")}
	api.Put(slice)
	g := start(t, head+fmt.Sprintf("services: {a: {endpointsFrom: {kubernetes: {service: order, namespace: shop, "+
		"port: http, api: %q, token: %q, ca: %q}}, retries: {attempts: 0}}}\n", api.URL, api.Token, api.CA)+
		"routes: [{name: a, match: {path: /a}, service: a}]\n")
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Fatalf("a request gets %d, %s", got.status, got.body)
	}
	api.Take("another-token")
	api.Disconnect()
	awaitThat(t, "the fault is shown", func() bool {
		all := g.discovery()
		return len(all) == 1 && strings.Contains(all[0].Fault, "401") && all[0].Endpoints == 1
	})
	if got := g.do("GET", "/a", ""); got.status != 200 {
		t.Errorf("without the API a request gets %d, %s", got.status, got.body)
	}
	if err := os.WriteFile(api.Token, []byte("another-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	slice.Endpoints = nil
	api.Put(slice)
	awaitThat(t, "the last endpoint has gone", func() bool { return g.do("GET", "/a", "").status == 502 })
}

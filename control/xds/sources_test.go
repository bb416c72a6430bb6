package xds

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
)

// sourceOf returns the source of a service's endpoints.
func sourceOf(d *config.Document, service string) string {
	return discovery.SourceKey(d.Config().Services[service])
}

// endpointsVersion returns the version of the endpoints of service order that a node is to have.
func (r *running) endpointsVersion(node string) string {
	p := r.plane
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.byID[node] {
		if s.snapshot != nil {
			return fmt.Sprint(s.snapshot.GetResources(resource.EndpointType)["order"])
		}
	}
	return ""
}

// TestEndpointsOfACanaryReachTheCanaryAlone: a change has the endpoints of a service come from elsewhere. Nodes that
// have not got it go on with those of their own source, behind a return too.
func TestEndpointsOfACanaryReachTheCanaryAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, address := range map[string]string{"good": "10.0.0.1:80", "bad": "10.9.9.9:80"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(address+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := func(canary, file string) string {
		return strings.Replace(shopOf(withCanary(canary), 200), `endpoints: ["http://127.0.0.1:7001"]`,
			"endpointsFrom: {file: "+filepath.Join(dir, file)+"}", 1)
	}
	first := parse(t, text("{share: 20%, for: 1s, errors: 2%}", "good"))
	r := startDocument(t, first)
	nodes := map[string]*xdsclient.Client{}
	for i := range 5 {
		id := fmt.Sprintf("edge-%d", i)
		nodes[id] = r.gateway(id)
	}
	for _, c := range nodes {
		awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	}
	r.awaitStable(first.Hash())
	has := func(address string) (list []string) {
		for id := range nodes {
			if strings.Contains(r.endpointsVersion(id), address) {
				list = append(list, id)
			}
		}
		slices.Sort(list)
		return list
	}
	r.await("endpoints", func(Status) bool { return len(has("10.0.0.1")) == len(nodes) })

	second := r.apply(text("{share: 20%, for: 1h, errors: 2%}", "bad"))
	r.await("the other endpoints", func(s Status) bool {
		return s.Rollout.Acked == 1 && len(has("10.9.9.9")) > 0
	})
	if s := r.plane.Status(); len(has("10.9.9.9")) != 1 || len(has("10.0.0.1")) != 4 || len(s.Endpoints) != 2 {
		t.Errorf("%q have the endpoints of the change, sources %+v", has("10.9.9.9"), s.Endpoints)
	}
	if err := os.WriteFile(filepath.Join(dir, "good"), []byte("10.0.0.2:80\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.await("what their own source finds", func(Status) bool { return len(has("10.0.0.2")) == 4 })

	r.plane.mu.Lock()
	var tried *session
	for s := range r.plane.sessions {
		if s.target == second.Hash() {
			tried = s
		}
	}
	r.plane.mu.Unlock()
	bad := r.reporter(t, tried.id)
	bad.report(0, 1000)
	r.await("the return", func(s Status) bool { return s.Rollout.TakenBack != nil && len(has("10.0.0.2")) == 5 })
	r.apply(text("{share: 20%, for: 1s, errors: 2%}", "good"))
	r.await("one source", func(s Status) bool {
		return s.Rollout.TakenBack == nil && len(s.Endpoints) == 1 && s.Endpoints[0].Service == "order"
	})
	if len(has("10.0.0.2")) != 5 {
		t.Errorf("behind the return %q have the endpoints", has("10.0.0.2"))
	}
}

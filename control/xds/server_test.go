package xds

import (
	"errors"
	"strings"
	"testing"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/nativedialect"
)

// TestChangeReachesGateways: a gateway is sent the document as it was written, and each change.
func TestChangeReachesGateways(t *testing.T) {
	t.Parallel()
	first := parse(t, documentOf(control, 200))
	r := startDocument(t, first)
	c := r.gateway("edge-1")
	awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	s, _ := c.State()
	got := new(core.TypedExtensionConfig)
	if err := s.Resources[resource.ExtensionConfigType]["sluice"].GetResource().UnmarshalTo(got); err != nil {
		t.Fatal(err)
	}
	document, err := nativedialect.Document(got)
	if err != nil || string(document) != string(first.JSON()) {
		t.Errorf("got %s, %v", document, err)
	}
	r.awaitStable(first.Hash())
	second := r.apply(documentOf(control, 201))
	awaitVersion(t, c, resource.ExtensionConfigType, second.Hash())
	r.awaitStable(second.Hash())
	status := r.await("the node's version", func(s Status) bool { return s.Nodes[0].Version == second.Hash() })
	if n := status.Nodes[0]; n.ID != "edge-1" || n.Dialect != "sluice" || n.Protocol != "delta" {
		t.Errorf("node %+v", n)
	}
}

// TestNackTakesBackFromAll: a version that one gateway refuses is taken back, and reached the first
// one only.
func TestNackTakesBackFromAll(t *testing.T) {
	t.Parallel()
	first := parse(t, documentOf(control, 200))
	r := startDocument(t, first)
	refuse := func(o *xdsclient.Options) {
		o.Judge = func(r xdsclient.Response) error {
			if r.Version != first.Hash() {
				return errors.New("routes[0]: not here")
			}
			return nil
		}
	}
	clients := map[string]*xdsclient.Client{}
	for _, id := range []string{"edge-1", "edge-2", "edge-3", "edge-4"} {
		clients[id] = r.gateway(id, refuse)
	}
	for _, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	}
	r.awaitStable(first.Hash())
	bad := r.apply(documentOf(control, 204))
	s := r.await("the version taken back", func(s Status) bool { return s.Rollout.TakenBack != nil })
	if back := s.Rollout.TakenBack; back.Version != bad.Hash() || back.Reason != "routes[0]: not here" {
		t.Errorf("taken back: %+v", back)
	}
	if len(s.Nacks) != 1 || s.Nacks[0].Type != "TypedExtensionConfig" || s.Nacks[0].Version != bad.Hash() ||
		s.Nacks[0].Node != s.Rollout.TakenBack.Node {
		t.Errorf("nacks: %+v", s.Nacks)
	}
	refused := 0
	for id, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
		state, _ := c.State()
		refused += state.Refused
		if state.Refused > 0 && id != s.Rollout.TakenBack.Node {
			t.Errorf("the version reached %s too", id)
		}
	}
	if refused != 1 {
		t.Errorf("it reached %d nodes, want 1", refused)
	}
	third := r.apply(documentOf(control, 200) + "x-note: again\n" + "limits: {l: {rate: 1/s}}\n")
	_ = third
	if !strings.Contains(r.log.String(), "taken back") || !strings.Contains(r.log.String(), bad.Hash()) {
		t.Errorf("log:\n%s", r.log)
	}
}

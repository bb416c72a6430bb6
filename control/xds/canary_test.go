package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	load "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// withCanary is the head of a document with a canary.
func withCanary(canary string) string {
	return strings.Replace(control, `"127.0.0.1:0"}}`, `"127.0.0.1:0"}, canary: `+canary+`}`, 1)
}

// reporter reports a node's requests.
type reporter struct {
	load.LoadReportingService_StreamLoadStatsClient
	t    *testing.T
	node *core.Node
}

func (r *running) reporter(t *testing.T, id string) *reporter {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s, err := load.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := &reporter{s, t, nativeNode(id)}
	out.report(0, 0)
	asked, err := s.Recv()
	if err != nil || !asked.GetSendAllClusters() || asked.GetLoadReportingInterval().AsDuration() != loadEvery {
		t.Fatalf("asked for %v, %v", asked, err)
	}
	return out
}

func (r *reporter) report(succeeded, failed uint64) {
	r.t.Helper()
	err := r.Send(&load.LoadStatsRequest{Node: r.node, ClusterStats: []*endpoint.ClusterStats{{
		ClusterName: "order", UpstreamLocalityStats: []*endpoint.UpstreamLocalityStats{{
			TotalSuccessfulRequests: succeeded, TotalErrorRequests: failed,
		}},
	}}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestCanaryReturnsByErrorRate: the nodes that have a change fail more requests than the others, and
// it is taken back.
func TestCanaryReturnsByErrorRate(t *testing.T) {
	t.Parallel()
	head := withCanary("{share: 20%, for: 1s, errors: 2%}")
	first := parse(t, documentOf(head, 200))
	r := startDocument(t, first)
	clients := map[string]*xdsclient.Client{}
	for i := range 10 {
		id := fmt.Sprintf("edge-%d", i)
		clients[id] = r.gateway(id)
	}
	for _, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	}
	r.awaitStable(first.Hash())

	second := r.apply(documentOf(withCanary("{share: 20%, for: 1h, errors: 2%}"), 201))
	s := r.await("the share", func(s Status) bool { return s.Rollout.Acked == 2 })
	if s.Rollout.Phase != "canary" || s.Rollout.Stable != first.Hash() || s.Rollout.Until.IsZero() {
		t.Errorf("%+v", s.Rollout)
	}
	var tried, other string
	for _, n := range s.Nodes {
		if n.Version == second.Hash() {
			tried = n.ID
		} else {
			other = n.ID
		}
	}
	r.reporter(t, other).report(1000, 10)
	r.await("the others' report", func(s Status) bool { return s.Rollout.Others.Requests == 1010 })
	bad := r.reporter(t, tried)
	bad.report(990, 10)
	r.await("the first report", func(s Status) bool { return s.Rollout.Canary == LoadStatus{1000, 10} })
	bad.report(0, 100)
	s = r.await("the return", func(s Status) bool { return s.Rollout.TakenBack != nil })
	if b := s.Rollout.TakenBack; b.Node != "" || !strings.Contains(b.Reason, "10.00% of 1100 requests failed") {
		t.Errorf("%+v", b)
	}
	for _, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	}

	third := r.apply(documentOf(withCanary("{share: 20%, for: 1s, errors: 2%}"), 202))
	r.awaitStable(third.Hash()) // nothing speaks against it
	for _, c := range clients {
		awaitVersion(t, c, resource.ExtensionConfigType, third.Hash())
	}
}

// TestBadChangeReachesTheCanaryAtMost: every node would refuse it.
func TestBadChangeReachesTheCanaryAtMost(t *testing.T) {
	t.Parallel()
	head := withCanary("{share: 30%, for: 1s}")
	first := parse(t, documentOf(head, 200))
	r := startDocument(t, first)
	var clients []*xdsclient.Client
	for i := range 10 {
		clients = append(clients, r.gateway(fmt.Sprintf("edge-%d", i), func(o *xdsclient.Options) {
			o.Judge = func(r xdsclient.Response) error {
				if r.Version != first.Hash() {
					return errors.New("no")
				}
				return nil
			}
		}))
	}
	awaitAll(t, clients, first.Hash())
	r.awaitStable(first.Hash())
	r.apply(documentOf(head, 201))
	s := r.await("the return", func(s Status) bool { return s.Rollout.TakenBack != nil })
	refused := 0
	for _, c := range clients {
		state, _ := c.State()
		refused += state.Refused
	}
	if refused != 1 || s.Rollout.Phase != "taken-back" {
		t.Errorf("it reached %d nodes, phase %s", refused, s.Rollout.Phase)
	}
}

// TestFaultsReachNobody: what does not load, what a gateway would refuse and what takes a restart stay
// with the control plane, and are shown.
func TestFaultsReachNobody(t *testing.T) {
	t.Parallel()
	first := parse(t, documentOf(control, 200))
	refused := errors.New("gateway: no chain for route a")
	r := startDocument(t, first, func(c *controlPlane) {
		c.Check = func(d *config.Document) error {
			if d.Hash() != first.Hash() {
				return refused
			}
			return nil
		}
	})
	c := r.gateway("edge-1")
	awaitVersion(t, c, resource.ExtensionConfigType, first.Hash())
	if err := r.sink.Apply(parse(t, documentOf(control, 201)), false); !errors.Is(err, refused) {
		t.Errorf("applied with %v", err)
	}
	r.sink.Refuse(errors.New("t.yaml:3:1: routes: what does not load"))
	s := r.plane.Status()
	if s.Configuration.Version != first.Hash() || !strings.Contains(s.Configuration.Fault, "t.yaml:3:1") {
		t.Errorf("%+v", s.Configuration)
	}
	for setting, text := range map[string]string{
		"control.listen.address": strings.Replace(documentOf(control, 200), `listen: {address: "127.0.0.1:0"`,
			`listen: {address: "127.0.0.1:1"`, 1),
		"admin.address": strings.Replace(documentOf(control, 200), `admin: {address: "127.0.0.1:0"`,
			`admin: {address: "127.0.0.1:2"`, 1),
	} {
		err := r.sink.Apply(parse(t, text), false)
		if err == nil || !strings.Contains(err.Error(), setting+" differs") {
			t.Errorf("%s: %v", setting, err)
		}
	}
	body := r.get("/metrics")
	if !strings.Contains(body, `sluice_config_reloads_total{result="refused"} 4`) {
		t.Error("the refusals are not counted")
	}
	if state, _ := c.State(); state.Responses != 1 {
		t.Errorf("%d responses, want 1", state.Responses)
	}
}

// get asks the admin address.
func (r *running) get(path string) string {
	r.t.Helper()
	w := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Host = "127.0.0.1"
	r.plane.adminHandler().ServeHTTP(w, request)
	if w.Code != http.StatusOK {
		r.t.Errorf("%s: %d", path, w.Code)
	}
	return w.Body.String()
}

// TestAdmin: what operators see.
func TestAdmin(t *testing.T) {
	t.Parallel()
	d := parse(t, strings.Replace(documentOf(control, 200), "admin: {", `admin: {token: "0123456789abcdef", `, 1))
	r := startDocument(t, d)
	c := r.gateway("edge-1")
	awaitVersion(t, c, resource.ExtensionConfigType, d.Hash())
	r.awaitStable(d.Hash())
	url := "http://" + r.plane.addresses.Admin
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/api/status": 401, "/api/config": 401, "/debug/pprof/": 401,
	} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/api/status", nil)
	request.Header.Set("Authorization", "Bearer 0123456789abcdef")
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var s Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if !s.Ready || s.Configuration.Version != d.Hash() || s.Rollout.Stable != d.Hash() || len(s.Nodes) != 1 ||
		s.Addresses.Control != r.address || time.Since(s.Since) > time.Hour {
		t.Errorf("%+v", s)
	}
	if metrics := r.metricsText(url); !strings.Contains(metrics,
		`sluice_control_nodes{dialect="sluice",state="acknowledged"} 1`) ||
		!strings.Contains(metrics, `sluice_control_rollout{phase="stable"} 1`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

func (r *running) metricsText(url string) string {
	r.t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// TestCheckOffersNothing: what would become of a change is told, and no node has any of it.
func TestCheckOffersNothing(t *testing.T) {
	t.Parallel()
	first := parseIn(t, "", documentOf(control, 200))
	r := startDocument(t, first)
	for text, want := range map[string]plan.Outcome{
		documentOf(control, 200):               plan.Unchanged,
		documentOf(control, 201):               plan.Applied,
		documentOf(control, 201) + "rotes: []": plan.Refused,
		strings.Replace(documentOf(control, 200), `admin: {address: "127.0.0.1:0"`,
			`admin: {address: "127.0.0.1:2"`, 1): plan.Refused,
	} {
		got, err := r.plane.checkConfig([]config.File{{Name: "t.yaml", Data: []byte(text)}})
		if err != nil || got.Outcome != want || want == plan.Refused && got.Reason == "" && len(got.Faults) == 0 {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if s := r.plane.Status(); s.Configuration.Version != first.Hash() || s.Configuration.Fault != "" {
		t.Errorf("%+v", s.Configuration)
	}
}

// TestReloadTriesAgain: a version that was taken back is tried once more when somebody asks, and not
// when a certificate or another file has changed.
func TestReloadTriesAgain(t *testing.T) {
	t.Parallel()
	first := parse(t, documentOf(control, 200))
	r := startDocument(t, first)
	r.gateway("edge-1", func(o *xdsclient.Options) {
		o.Judge = func(r xdsclient.Response) error {
			if r.Version != first.Hash() {
				return errors.New("no")
			}
			return nil
		}
	})
	r.awaitStable(first.Hash())
	bad := r.apply(documentOf(control, 201))
	nacks := func(n int) func(Status) bool {
		return func(s Status) bool { return len(s.Nacks) == n && s.Rollout.TakenBack != nil }
	}
	r.await("taken back", nacks(1))
	if err := r.sink.Apply(bad, false); err != nil {
		t.Fatal(err)
	}
	r.await("nothing new", nacks(1))
	if err := r.sink.Apply(bad, true); err != nil {
		t.Fatal(err)
	}
	r.await("taken back again", nacks(2))
}

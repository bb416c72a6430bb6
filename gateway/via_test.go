package gateway

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

func TestPassed(t *testing.T) {
	t.Parallel()
	for via, want := range map[string]bool{
		"1.1 sluice-1": true, "1.1 other, 1.1 sluice-1": true, "1.1 sluice-1, 1.1 other": true,
		"HTTP/1.1 sluice-1": true, "1.1 SLUICE-1": true, "1.1\tsluice-1": true, "1.1   sluice-1  (a comment)": true,
		"1.1 sluice-1(a comment)": true, "1.1 a (b, c), 2 sluice-1": true, `1.1 a (\), ((b))), 2 sluice-1`: true,
		",, 1.1 sluice-1 ,": true,
		// A comment that does not end hides nothing.
		"1.1 a (, 1.1 sluice-1": true, `1.1 a (\, 1.1 sluice-1`: true, "1.1 a (((b), 1.1 sluice-1, 1.1 c (d)": true,
		"": false, "1.1 sluice": false, "1.1 sluice-12": false, "1.1 xsluice-1": false, "sluice-1": false,
		"sluice-1 1.1": false, "1.1 a (1.1 sluice-1)": false, "1.1 a (b, 1.1 sluice-1)": false,
		"1.1 sluice-1:80": false, "1.1 a sluice-1": false, "1.1": false, "1.1 ": false,
	} {
		if passed(via, "sluice-1") != want {
			t.Errorf("%q: %v", via, !want)
		}
	}
}

func FuzzVia(f *testing.F) {
	for _, s := range []string{"1.1 a", "1.1 a (b, c)", `1.1 a (\`, "(((", ",,", "1.1 sluice-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, via string) {
		passed(via, "sluice-1")
		// What a client sends cannot hide what the gateways behind it append.
		if !passed(via+", 1.1 sluice-1", "sluice-1") {
			t.Errorf("%q hides what comes behind it", via)
		}
	})
}

func TestViaOfEachVersion(t *testing.T) {
	t.Parallel()
	h := newHop()
	if h.name == newHop().name {
		t.Error("two processes have one name")
	}
	for _, version := range []string{"1.0", "1.1", "2"} {
		if got := h.of(version); got != version+" "+h.name || !passed(got, h.name) {
			t.Errorf("%s: %q", version, got)
		}
	}
	e := newEngine(manyRoutes(t, 1, "respond: {status: 200}"), h)
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Path, x.Host, x.Version = "GET", "/", "a", "2"
	x.Header.Add("Via", "1.1 a (b")
	x.Header.Add("via", h.of("1.1"))
	if reply := e.normalize(x, "", 0); reply == nil || reply.Reason != filters.LoopDetected || reply.Status != 508 {
		t.Errorf("two fields: %+v", reply)
	}
}

// A request that comes back to the gateway ends there; one that only passes two gateways does not.
// A reload does not forget what was sent.
func TestLoopsEnd(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	text := func(to string) string {
		return head + `
services: {a: {endpoints: ["` + to + `"], retries: {attempts: 0}}}` + allToA
	}
	sidecar := start(t, text(s.URL))
	edge := start(t, text("http://"+sidecar.at.HTTP))
	if r := edge.do("GET", "/", ""); r.status != 200 {
		t.Fatalf("through both: %+v", r)
	}
	saw, _ := s.last(t)
	if via := saw.Header.Values("Via"); len(via) != 1 || strings.Count(via[0], " sluice-") != 2 {
		t.Errorf("the service saw Via %q", via)
	}
	direct := "http://" + sidecar.at.HTTP
	edge.reloaded(text(direct) + "# reloaded\n")
	if r := fetch(t, direct+"/", "GET", "", "Via",
		saw.Header.Get("Via")); r.status != 508 || r.reason() != "loop-detected" {
		t.Errorf("a request that has passed: %+v", r)
	}
	sidecar.reloaded(text("http://" + edge.at.HTTP))
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		resp, err := c.Get("http://" + edge.at.HTTP + "/")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != 508 {
			t.Errorf("%s: in a circle: %d", name, resp.StatusCode)
		}
	}
}

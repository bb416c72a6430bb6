package gateway

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/otlptest"
)

// Who decides: the share, and for trusted proxies the flag that they send.
func TestSamplingOfTraces(t *testing.T) {
	t.Parallel()
	c, s := otlptest.Start(t), newService(t, echo)
	gateways := map[string]*running{}
	for _, share := range []string{"0%", "100%"} {
		gateways[share] = start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: `+share+`}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	}
	proxy := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext, DisableKeepAlives: true}}
	unsampled := strings.TrimSuffix(clientParent, "1") + "0"
	traced := 0
	for _, x := range []struct {
		share, sent string
		trusted     bool
		want        string // what the service sees: a traceparent, or "own" and "attempt" for what is made here
	}{
		{"0%", "", false, "own"},
		{"0%", "", true, "own"},
		{"0%", "not a traceparent", true, "own"},
		{"0%", clientParent, false, unsampled},
		{"0%", "00-" + clientTrace + "-" + clientSpan + "-03", false, "00-" + clientTrace + "-" + clientSpan + "-02"},
		{"0%", "7f-" + clientTrace + "-" + clientSpan + "-01-more", false, unsampled},
		{"0%", unsampled, false, unsampled},
		{"0%", clientParent, true, "attempt"},
		{"100%", clientParent, false, "attempt"},
		{"100%", unsampled, false, "attempt"},
		{"100%", unsampled, true, unsampled},
		{"100%", clientParent, true, "attempt"},
	} {
		req, err := http.NewRequest("GET", "http://"+gateways[x.share].at.HTTP+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if x.sent != "" {
			req.Header.Set("Traceparent", x.sent)
		}
		by := client
		if x.trusted {
			by = proxy
		}
		resp, err := by.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		r, _ := s.last(t)
		got := r.Header.Get("Traceparent")
		switch x.want {
		case "own":
			if !validTraceparent(got) || !strings.HasSuffix(got, "-00") || strings.Contains(got, clientTrace) {
				t.Errorf("%+v: the service sees %q", x, got)
			}
		case "attempt":
			traced++
			if !strings.HasPrefix(got, "00-"+clientTrace+"-") || !strings.HasSuffix(got, "-01") ||
				strings.Contains(got, clientSpan) {
				t.Errorf("%+v: the service sees %q", x, got)
			}
		default:
			if got != x.want {
				t.Errorf("%+v: the service sees %q", x, got)
			}
		}
	}
	gateways["0%"].stop()
	gateways["100%"].stop()
	if n := len(c.Spans()); n != 2*traced {
		t.Errorf("%d spans, want those of %d requests:\n%s", n, traced, otlptest.Text(c.Spans()))
	}
}

// Without tracing no traceparent is made, and a client's goes on as it is.
func TestWithoutTracing(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
	for _, sent := range []string{"", clientParent, strings.TrimSuffix(clientParent, "1") + "0"} {
		var header []string
		if sent != "" {
			header = []string{"Traceparent", sent}
		}
		g.do("GET", "/", "", header...)
		if r, _ := s.last(t); r.Header.Get("Traceparent") != sent {
			t.Errorf("of %q the service sees %q", sent, r.Header.Get("Traceparent"))
		}
	}
	for _, name := range []string{"sluice_tracing_spans_exported_total", "sluice_tracing_spans_waiting",
		`sluice_tracing_spans_dropped_total{why="no-room"}`, `sluice_tracing_spans_dropped_total{why="not-taken"}`} {
		if v := g.metric(name); v != 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

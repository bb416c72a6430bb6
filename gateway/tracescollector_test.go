package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/otlptest"
)

// A collector that is not there, refuses or never answers changes nothing for requests; what is lost is counted, and
// the log says so once.
func TestTracesWithoutACollector(t *testing.T) {
	t.Parallel()
	s := newService(t, echo)
	silent, refusing := otlptest.Start(t), otlptest.Start(t)
	silent.Behave(otlptest.Silent)
	refusing.Behave(otlptest.Refuses)
	for name, endpoint := range map[string]string{
		"gone": "http://" + nobodyAt(t), "silent": silent.GRPC, "refusing": refusing.GRPC,
		"refusing by http": refusing.HTTP + ", protocol: http",
	} {
		g := start(t, head+`
tracing: {endpoint: `+endpoint+`, sample: 100%}
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`)
		for range 10 {
			if a := g.do("GET", "/", ""); a.status != 200 {
				t.Fatalf("%s: %d %s", name, a.status, a.body)
			}
		}
		if strings.HasPrefix(name, "refusing") {
			until(t, func() bool { return g.metric(`sluice_tracing_spans_dropped_total{why="not-taken"}`) == 20 })
		}
		g.stop()
		if n := strings.Count(g.logs.String(), "the collector of traces does not take spans"); n != 1 {
			t.Errorf("%s: the log says it %d times: %s", name, n, g.logs)
		}
		last := "did not take the last spans before the process ends\" dropped=20\n"
		if waited := !strings.HasPrefix(name, "refusing"); strings.Contains(g.logs.String(), last) != waited {
			t.Errorf("%s: the log of the end: %s", name, g.logs)
		}
	}
}

// No more spans wait than may, and those for which there is no room are counted.
func TestTracesThatNobodyTakes(t *testing.T) {
	t.Parallel()
	c := otlptest.Start(t)
	c.Behave(otlptest.Silent)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
routes: [{name: all, match: {path: /**}, respond: {status: 200}}]
`)
	for n := 0; g.metric(`sluice_tracing_spans_dropped_total{why="no-room"}`) == 0; n++ {
		if waiting := g.metric("sluice_tracing_spans_waiting"); waiting > 2048 || n > 100 {
			t.Fatalf("%v spans wait after %d requests", waiting, n*256)
		}
		for range 256 {
			if a := g.do("GET", "/", ""); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	}
	c.Behave(otlptest.Takes)
}

// A reload changes the share and the collector; what waits goes to the new one, or to the old one where tracing ends.
func TestReloadOfTracing(t *testing.T) {
	t.Parallel()
	first, second, s := otlptest.Start(t), otlptest.Start(t), newService(t, echo)
	text := func(tracing string) string {
		return head + tracing + `
services: {a: {endpoints: ["` + s.URL + `"]}}
routes: [{name: all, match: {path: /**}, service: a}]
`
	}
	first.Behave(otlptest.Silent)
	g := start(t, text(`tracing: {endpoint: "`+first.GRPC+`", sample: 100%}`))
	reload := func(tracing string) {
		t.Helper()
		before := g.metric(`sluice_config_reloads_total{result="applied"}`)
		g.configure(text(tracing))
		g.reload <- struct{}{}
		until(t, func() bool { return g.metric(`sluice_config_reloads_total{result="applied"}`) > before })
	}
	g.do("GET", "/1", "")
	until(t, func() bool { return first.Asked() > 0 })
	g.do("GET", "/2", "")
	reload(`tracing: {endpoint: "` + second.HTTP + `", protocol: http, sample: 100%}`)
	g.do("GET", "/3", "")
	second.Wait(t, "the spans of three requests", atLeast(6))
	until(t, func() bool { return g.metric("sluice_tracing_spans_exported_total") == 6 })

	reload(`tracing: {endpoint: "` + second.HTTP + `", protocol: http, sample: 0%}`)
	g.do("GET", "/4", "")
	reload(`tracing: {endpoint: "` + second.HTTP + `", protocol: http, sample: 100%}`)
	g.do("GET", "/5", "")
	reload("")
	g.do("GET", "/6", "")
	if r, _ := s.last(t); r.Header.Get("Traceparent") != "" {
		t.Errorf("switched off it makes %q", r.Header.Get("Traceparent"))
	}
	spans := second.Wait(t, "the spans of the last request before the end", atLeast(8))
	g.stop()
	for _, span := range spans {
		if path := span.Attributes["url.path"]; path == "/4" || path == "/6" {
			t.Errorf("there is a span of %s", path)
		}
	}
	if n := len(second.Spans()); n != 8 || len(first.Spans()) != 0 {
		t.Errorf("%d spans, want 8", n)
	}
}

// What waits at the end of the process is sent.
func TestTracesAtTheEnd(t *testing.T) {
	t.Parallel()
	c := otlptest.Start(t)
	g := start(t, head+`
tracing: {endpoint: "`+c.GRPC+`", sample: 100%}
routes: [{name: all, match: {path: /**}, respond: {status: 200}}]
`)
	g.do("GET", "/", "")
	began := time.Now()
	g.stop()
	if n := len(c.Spans()); n != 1 {
		t.Errorf("%d spans when it has ended after %v, want one", n, time.Since(began))
	}
}

package proxy

import (
	"bytes"
	"context"
	"math"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/bench/kit/pagetest"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// startPart runs a part in this process and returns its address.
func startPart(t *testing.T, name, target string) string {
	t.Helper()
	address, admin := pick(t), pick(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- RunPart(ctx, []string{name, address, admin, target}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return address
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("%s ended: %v", name, err)
		case <-time.After(time.Millisecond):
		}
	}
}

func pick(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestUnknownPart(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"nothing", "", "", "http://x"}, {"relay", "", "", ":"}} {
		if err := RunPart(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// sampleReport is a report in which every mark can be judged.
func sampleReport() *Report {
	figure := func(cpu, mallocs float64) *measure.Figure {
		return &measure.Figure{CPUMicros: cpu, CPURounds: []float64{cpu, cpu, 2 * cpu}, PerSecond: 1e6 / cpu,
			Mallocs: &mallocs, Requests: 1000}
	}
	three := func(cpu, mallocs float64) map[measure.Load]*measure.Figure {
		return map[measure.Load]*measure.Figure{loadGet: figure(cpu, mallocs), loadPost: figure(cpu, mallocs),
			loadBig: figure(cpu, mallocs)}
	}
	idle := 5.0 * 1024
	t := measure.Tally{Requests: 2000}
	for i := range 2000 {
		t.Latencies = append(t.Latencies, time.Duration(i)*time.Microsecond)
	}
	r := &Report{Loads: []measure.Load{loadGet, loadPost, loadBig}, Contenders: []measure.Result{
		{Name: relay, Figures: three(8, 0)},
		{Name: nginx, Figures: three(10, 0), Latency: measure.NewLatency([]measure.Tally{t})},
		{Name: nginxLimit, Figures: three(10, 0)},
		{Name: haproxy, Missing: "not available: <not here>"},
		{Name: gateway, Figures: three(9, 0.04), IdleBytes: &idle, Latency: measure.NewLatency([]measure.Tally{t})},
		{Name: gatewayFilters, Figures: three(11, 3)},
	}}
	r.relate()
	r.judge()
	return r
}

func TestMarks(t *testing.T) {
	t.Parallel()
	verdicts := func(r *Report) map[string]string {
		m := map[string]string{}
		for _, mark := range r.Marks {
			m[mark.What] = mark.Verdict()
		}
		return m
	}
	r := sampleReport()
	for what, want := range map[string]string{
		"plain route, GET: CPU against nginx":                    "met",
		"plain route, 64 KiB responses: CPU against nginx":       "missed",
		"all filters, GET: CPU against nginx + limit_req":        "missed",
		"all filters, keyed POST: CPU against nginx + limit_req": "met",
		"HTTP/2: CPU against ReverseProxy":                       "not measured",
		"all filters: allocations a GET":                         "missed",
		"all filters: allocations a keyed POST":                  "met",
		"memory an idle connection":                              "met",
	} {
		if got := verdicts(r)[what]; got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if got := *r.figure(gateway, loadGet).ToRelay; math.Abs(got-9.0/8) > 1e-9 {
		t.Errorf("ratio to the relay %v, want %v", got, 9.0/8)
	}
	r.figure(gateway, loadGet).Errors = 1
	r.Marks = nil
	r.judge()
	if got := verdicts(r)["plain route, GET: CPU against nginx"]; got != "there were errors" {
		t.Errorf("with errors: %q", got)
	}
}

// TestBusyMachineIsNotJudged: figures and their spread are shown all the same, and what is no time keeps its verdict.
func TestBusyMachineIsNotJudged(t *testing.T) {
	t.Parallel()
	const cpu, memory = "plain route, GET: CPU against nginx", "memory an idle connection"
	for _, c := range []struct {
		others      float64
		judge       bool
		cpu, remark string
	}{
		{0.04, false, "met, but not in 1 of 3 rounds", ""},
		{0.31, false, "not judged: the machine was busy", "other programs had 31 % of the processors' time"},
		{0.31, true, "met, but not in 1 of 3 rounds", "other programs had 31 %"},
	} {
		r := sampleReport()
		r.figure(gateway, loadGet).CPURounds[0] = 12
		r.Others, r.JudgeBusy, r.Marks = c.others, c.judge, nil
		r.judge()
		var out bytes.Buffer
		if err := r.WriteTable(&out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`(?m)^` + cpu + ` +1× +0\.90 \(0\.90 to 1\.20\) +` + c.cpu + ` *$`,
			`(?m)^` + memory + ` +6 KiB +5\.00 +met *$`,
		} {
			if !regexp.MustCompile(want).MatchString(out.String()) {
				t.Errorf("%+v: nothing like %s in\n%s", c, want, out.String())
			}
		}
		if got := strings.Contains(out.String(), "busy machine: "); got != (c.remark != "") ||
			!strings.Contains(out.String(), c.remark) {
			t.Errorf("%+v: busy machine: %v in\n%s", c, got, out.String())
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := sampleReport()
	r.Contenders[4].Figures[loadPost].Errors = 2
	r.Contenders[4].Figures[loadPost].FirstError = "status 503"
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^ +sluice +9\.00 +0\.90 +1\.12 +111111 +0\.04 +0 *$`,
		`(?m)^haproxy: not available: <not here>$`,
		`(?m)^sluice: POST, 512 bytes, keyed: 2 errors in 1000 requests, first: status 503$`,
		`(?m)^ +sluice +5\.00 +999 +1979 +1997 +0 *$`,
		`(?m)^memory an idle connection +6 KiB +5\.00 +met`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("nothing like %s in\n%s", want, out.String())
		}
	}
}

func TestHTML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sampleReport().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"<polyline", `class="ours"`, "&lt;not here&gt;", "99.9 %", `class="met"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	pagetest.SelfContained(t, text)
	if err := new(Report).WriteHTML(&out); err != nil {
		t.Errorf("an empty report: %v", err)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]map[string][]measure.Load{
		`^(nginx|sluice)$`:    {nginx: http1, gateway: {loadGet, loadPost, loadBig, loadHuge, loadH2}},
		`^sluice: GET$`:       {gateway: {loadGet}},
		`^sluice.*: .*keyed$`: {gateway: {loadPost}, gatewayFilters: {loadPost}},
		`gRPC`:                {reverseH2: {loadGRPC}, gatewayH2: {loadGRPC}},
		`^none$`:              {},
	} {
		got := map[string][]measure.Load{}
		for _, c := range measure.Chosen(contenders(), regexp.MustCompile(only)) {
			got[c.Name] = c.Loads
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v, want %v", only, got, want)
		}
		for name, loads := range want {
			if !slices.Equal(got[name], loads) {
				t.Errorf("%s: %s has %q, want %q", only, name, got[name], loads)
			}
		}
	}
}

package idempotency

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/pagetest"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{Duration: time.Second, Rounds: 1, Rate: 1000}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for flag, spoil := range map[string]func(*Options){
		"--connections": func(o *Options) { o.Connections = keyConnectionsMax + 1 },
		"--records":     func(o *Options) { o.Records = -1 },
		"--duration":    func(o *Options) { o.Duration = time.Millisecond },
		"--rounds":      func(o *Options) { o.Rounds = 0 },
		"--rate":        func(o *Options) { o.Rate = 0 },
	} {
		o := good
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v, want an error that names %s", err, flag)
		}
	}
}

// sampleReport is a report in which every mark can be judged.
func sampleReport() *Report {
	store := func(name string, connections int, plain, keyed, replay float64) StoreResult {
		figures := map[measure.Load]*measure.Figure{}
		for load, cpu := range map[measure.Load]float64{loadPlain: plain, loadKeyed: keyed, loadReplay: replay,
			loadPlainPaced: 40, loadKeyedPaced: 47.5} {
			figures[load] = &measure.Figure{CPUMicros: cpu, CPURounds: []float64{cpu, cpu}, PerSecond: 4e5 / cpu,
				PerSecondRounds: []float64{4e5 / cpu, 4e5 / cpu}, Requests: 100}
		}
		return StoreResult{Result: measure.Result{Name: name, Figures: figures}, Connections: connections}
	}
	fsyncs := 50.0
	r := &Report{
		FileSystem: "ext4", Fsyncs: &fsyncs,
		Stores: []StoreResult{
			store(memoryStore, 64, 20, 25, 10), store(embeddedStore, 256, 20, 50, 30),
			store(redisStore, 64, 20, 27, 14),
			{Result: measure.Result{Name: "another", Missing: "not available: <not here>"}, Connections: 1},
		},
		Live: &Live{Records: recordsLive, After: Memory{Proportional: 250e6}},
	}
	r.relate()
	r.judge()
	return r
}

func TestMarks(t *testing.T) {
	t.Parallel()
	const achieved = "embedded store: keyed POSTs a second, as far as the disk lets them"
	want := map[string]string{
		"embedded store: keyed POSTs a second of the gateway's CPU": "met",
		achieved: "met",
		"embedded store: CPU of a keyed POST against one without a key":            "missed",
		"Redis store: CPU that a key adds at 10000/s":                              "met",
		"memory store: CPU of a keyed POST that is forwarded against its replay":   "met",
		"embedded store: CPU of a keyed POST that is forwarded against its replay": "missed",
		"Redis store: CPU of a keyed POST that is forwarded against its replay":    "missed",
		"another: CPU of a keyed POST that is forwarded against its replay":        "not measured",
		"embedded store: memory of the gateway with 1000000 live records":          "met",
	}
	r := sampleReport()
	got := map[string]measure.Mark{}
	for _, m := range r.Marks {
		got[m.What] = m
	}
	for what, verdict := range want {
		if m := got[what]; m.Verdict() != verdict {
			t.Errorf("%s: %q, want %q", what, m.Verdict(), verdict)
		}
	}
	if limit := got[achieved].Limit; limit != 6400 {
		t.Errorf("256 clients at 50 fsyncs/s are asked for %v/s, want 6400", limit)
	}
	if f := r.figure(embeddedStore, loadKeyed); *f.ToPlain != 2.5 || *f.Added != 30 || *r.PerFsync != 160 {
		t.Errorf("%v ×, %v µs, %v a fsync; want 2.5, 30, 160", *f.ToPlain, *f.Added, *r.PerFsync)
	}
	r.Live.Records--
	if m := r.liveMark(); m.Got != nil {
		t.Error("fewer records than the mark is for are judged")
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := sampleReport()
	r.Stores[0].Figures[loadKeyed].Errors, r.Stores[0].Figures[loadKeyed].FirstError = 2, "status 503"
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^ +embedded store, 256 connections +CPU µs`,
		`(?m)^ +keyed POST +50\.00 +2\.50 +30\.00 +20000 +8000 +- +0 *$`,
		`(?m)^memory store: keyed POST: 2 errors in 100 requests, first: status 503$`,
		`(?m)^another: not available: <not here>$`,
		`(?m)^Redis store: CPU that a key adds at 10000/s +at most 8 µs +7\.50 \(7\.50 to 7\.50\) +met`,
		`(?m)^bare loop of .*: 50/s, 20000 µs each;.*: 160\.0$`,
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
	for _, want := range []string{"&lt;not here&gt;", `class="met"`, "at least 10000/s", "<style>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	pagetest.SelfContained(t, text)
	if err := new(Report).WriteHTML(&out); err != nil {
		t.Errorf("an empty report: %v", err)
	}
}

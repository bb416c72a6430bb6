package proxy

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestKeysOfRequests(t *testing.T) {
	t.Parallel()
	keyOf := regexp.MustCompile(`(?s)^POST (/\w+) .*X-User: (\S+)\r\n.*Idempotency-Key: (\S+)\r\n`)
	for _, c := range []struct {
		load, path string
		keys       int // different ones in three times as many requests as there are users
	}{
		{loadKeyed, "/keyed", 3 * users},
		{loadReplay, "/keyed", users},
	} {
		r := newRequest(c.load, "x")
		owners := map[string]string{}
		for range 3 * users {
			m := keyOf.FindSubmatch(r.next())
			if m == nil || string(m[1]) != c.path {
				t.Fatalf("%s: request %q", c.load, r.wire)
			}
			user, key := string(m[2]), string(m[3])
			if owner, ok := owners[key]; ok && owner != user {
				t.Fatalf("%s: key %s is %s's and %s's", c.load, key, owner, user)
			}
			owners[key] = user
		}
		if len(owners) != c.keys {
			t.Errorf("%s: %d keys, want %d", c.load, len(owners), c.keys)
		}
	}
	if plain := newRequest(loadPlain, "x").next(); bytes.Contains(plain, []byte("Idempotency-Key")) || !bytes.HasPrefix(plain, []byte("POST /plain ")) {
		t.Errorf("without a key: %q", plain)
	}
}

func TestIdempotencyOptions(t *testing.T) {
	t.Parallel()
	good := IdempotencyOptions{Duration: time.Second, Rounds: 1, Rate: 1000}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for flag, spoil := range map[string]func(*IdempotencyOptions){
		"--connections": func(o *IdempotencyOptions) { o.Connections = keyConnectionsMax + 1 },
		"--records":     func(o *IdempotencyOptions) { o.Records = -1 },
		"--duration":    func(o *IdempotencyOptions) { o.Duration = time.Millisecond },
		"--rounds":      func(o *IdempotencyOptions) { o.Rounds = 0 },
		"--rate":        func(o *IdempotencyOptions) { o.Rate = 0 },
	} {
		o := good
		spoil(&o)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v, want an error that names %s", err, flag)
		}
	}
}

// sampleIdempotency is a report in which every mark can be judged.
func sampleIdempotency() *IdempotencyReport {
	store := func(name string, connections int, plain, keyed, replay float64) StoreResult {
		figures := map[string]*Figure{}
		for load, cpu := range map[string]float64{loadPlain: plain, loadKeyed: keyed, loadReplay: replay} {
			figures[load] = &Figure{CPUMicros: cpu, CPURounds: []float64{cpu, cpu}, PerSecond: 4e5 / cpu, Requests: 100}
		}
		return StoreResult{Result: Result{Name: name, Figures: figures}, Connections: connections, Paced: &Paced{Rate: 10_000, Plain: 40, Keyed: 47.5}}
	}
	fsyncs := 50.0
	r := &IdempotencyReport{
		FileSystem: "ext4", Fsyncs: &fsyncs,
		Stores: []StoreResult{
			store(memoryStore, 64, 20, 25, 10), store(embeddedStore, 256, 20, 50, 30), store(redisStore, 64, 20, 27, 14),
			{Result: Result{Name: "another", Missing: "not available: <not here>"}, Connections: 1},
		},
		Live: &Live{Records: recordsLive, After: Memory{Proportional: 250e6}},
	}
	r.relate()
	r.judge()
	return r
}

func TestIdempotencyMarks(t *testing.T) {
	t.Parallel()
	const achieved = "embedded store: keyed POSTs a second, as far as the disk lets them"
	want := map[string]string{
		"embedded store: keyed POSTs a second of the gateway's CPU": "met",
		achieved: "met",
		"embedded store: CPU of a keyed POST against one without a key":            "missed",
		"Redis store: CPU that a key adds":                                         "met",
		"memory store: CPU of a keyed POST that is forwarded against its replay":   "met",
		"embedded store: CPU of a keyed POST that is forwarded against its replay": "missed",
		"Redis store: CPU of a keyed POST that is forwarded against its replay":    "missed",
		"another: CPU of a keyed POST that is forwarded against its replay":        "not measured",
		"embedded store: memory of the gateway with 1000000 live records":          "met",
	}
	r := sampleIdempotency()
	got := map[string]Mark{}
	for _, m := range r.Marks {
		got[m.What] = m
	}
	for what, verdict := range want {
		if m := got[what]; m.verdict() != verdict {
			t.Errorf("%s: %q, want %q", what, m.verdict(), verdict)
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

func TestIdempotencyTable(t *testing.T) {
	t.Parallel()
	r := sampleIdempotency()
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
		`(?m)^Redis store: CPU that a key adds +at most 8 µs +7\.00 +met`,
		`(?m)^bare loop of .*: 50/s, 20000 µs each;.*: 160\.0$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("nothing like %s in\n%s", want, out.String())
		}
	}
}

func TestIdempotencyHTML(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sampleIdempotency().WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"&lt;not here&gt;", `class="met"`, "at least 10000/s", "<style>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, never := range []string{"NaN", "Inf", "http://", "https://", "<script", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("%q is in the page", never)
		}
	}
	if err := new(IdempotencyReport).WriteHTML(&out); err != nil {
		t.Errorf("an empty report: %v", err)
	}
}

package idempotency

import (
	"embed"
	"fmt"
	"io"
	"regexp"
	"text/template"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

//go:embed templates
var templateFiles embed.FS

var (
	templates = template.Must(template.ParseFS(templateFiles, "templates/*.tmpl"))
	pages     = measure.Pages(templateFiles)
)

// The loads: a POST of 512 bytes, which the upstream answers alike whatever its path. The paths are
// those of the gateway's two routes.
var (
	loadPlain  = measure.Load{Name: "POST without a key", Path: "/plain", Post: true}
	loadKeyed  = measure.Load{Name: "keyed POST", Path: "/keyed", Post: true, Keys: measure.FreshKeys}
	loadReplay = measure.Load{Name: "replay", Path: "/keyed", Post: true, Keys: measure.RecordedKeys}

	// The same at one rate that every store keeps up with. A gateway that waits for a store is idle in between, and to
	// be woken costs it more than to go on: as many requests a second without a key cost more as well than what a
	// gateway that never rests makes of them. So what a key adds is judged by these.
	loadPlainPaced = measure.Load{Name: "POST without a key, 10000/s", Path: "/plain", Post: true, Rate: paceRate}
	loadKeyedPaced = measure.Load{Name: "keyed POST, 10000/s", Path: "/keyed", Post: true, Rate: paceRate,
		Keys: measure.FreshKeys}

	loads = []measure.Load{loadPlain, loadKeyed, loadReplay, loadPlainPaced, loadKeyedPaced}
)

// The stores that bench idempotency measures; marks refer to them.
const (
	memoryStore   = "memory store"
	embeddedStore = "embedded store"
	redisStore    = "Redis store"
)

// Options says what bench idempotency measures and for how long.
type Options struct {
	Program string // this program: the gateway
	Against string // another build of it, for Compare
	// where the embedded store's folder is made; empty: a folder for temporary files that is on a
	// disk
	Dir         string
	Duration    time.Duration  // of one slice
	Rounds      int            // slices of each load on each store
	Connections int            // of the closed loops; 0: 256 for the embedded store, else 64
	Rate        int            // requests a second of the open loop
	Records     int            // live ones when memory is looked at; 0: it is not
	Quick       bool           // one short round and few records: whether it runs, not how fast, so without verdicts
	Only        *regexp.Regexp // stores by name, or loads on them by "name: load"; nil is all
	Progress    io.Writer      // a bar or lines; nil is silence
	Terminal    bool           // Progress is a terminal
	JudgeBusy   bool           // on a machine too that other programs keep busy
}

const (
	keyConnectionsMax = 2000 // more would ask for the same replays at once
	recordsMax        = 100_000_000
	recordsQuick      = 5000
	durationQuick     = 200 * time.Millisecond

	embeddedConnections = 256
	otherConnections    = 64
)

// check returns the first value out of range, by the name of its flag, and fills in what Quick
// says.
func (o *Options) check() error {
	if o.Connections < 0 || o.Connections > keyConnectionsMax {
		return fmt.Errorf("idempotency: --connections is %d, want 0 to %d", o.Connections, keyConnectionsMax)
	}
	if o.Records < 0 || o.Records > recordsMax {
		return fmt.Errorf("idempotency: --records is %d, want 0 to %d", o.Records, recordsMax)
	}
	if o.Quick {
		o.Duration, o.Rounds, o.Records = min(o.Duration, durationQuick), 1, min(o.Records, recordsQuick)
	}
	general := o.general()
	return general.Check()
}

// general is what this has in common with bench proxy.
func (o *Options) general() measure.Options {
	connections := o.Connections
	if connections == 0 {
		connections = otherConnections
	}
	return measure.Options{
		Program: o.Program, Against: o.Against, Only: o.Only, Duration: o.Duration, Rounds: o.Rounds,
		Connections: connections, IdleConnections: 1, Rate: o.Rate,
		Progress: o.Progress, Terminal: o.Terminal, JudgeBusy: o.JudgeBusy,
	}
}

// ttl lets no response expire while it is replayed, and yet the records of earlier slices. Short slices leave few of
// them, and on a busy machine it takes longer than ten seconds to have the responses there.
func (o *Options) ttl() time.Duration {
	if o.Duration < 200*time.Millisecond {
		return time.Minute
	}
	return max(10*time.Second, 4*o.Duration).Round(time.Second)
}

// stores returns the gateways that are measured, each with a store of its own.
func (o *Options) stores() []measure.Contender {
	var all []measure.Contender
	for _, s := range []struct {
		name, kind  string
		connections int
	}{
		{memoryStore, "memory", otherConnections},
		{embeddedStore, "embedded", embeddedConnections},
		{redisStore, "redis", otherConnections},
	} {
		if o.Connections > 0 {
			s.connections = o.Connections
		}
		all = append(all, measure.Contender{
			Name: s.name, Templates: templates, File: "idempotency.yaml", Loads: loads, Metrics: true,
			Connections: s.connections,
			Settings: map[string]any{"Store": s.kind, "TTL": o.ttl(), "MaxRecords": max(10_000_000, 2*o.Records),
				"Redis": ""},
		})
	}
	return all
}

// Report is what one run of bench idempotency found.
type Report struct {
	measure.Setting
	FileSystem string         `json:"fileSystem"`
	Rate       int            `json:"rate"`
	Quick      bool           `json:"quick,omitempty"`
	Fsyncs     *float64       `json:"fsyncsPerSecond,omitempty"` // of the bare loop; median over the rounds
	PerFsync   *float64       `json:"requestsPerFsync,omitempty"`
	Stores     []StoreResult  `json:"stores"`
	Live       *Live          `json:"live,omitempty"`
	Marks      []measure.Mark `json:"marks"`
}

// StoreResult is what was found of a gateway with one store. Its latency is that of keyed POSTs.
type StoreResult struct {
	measure.Result
	Connections int `json:"connections"`
}

const paceRate = 10_000

// Live is a gateway's memory with that many live records in its embedded store.
type Live struct {
	Records   int64   `json:"records"`
	Before    Memory  `json:"before"`
	After     Memory  `json:"after"`
	DiskBytes int64   `json:"diskBytes"`
	PerSecond float64 `json:"perSecond"` // while they were made
	Failed    string  `json:"failed,omitempty"`
}

// Memory is that of a process, in bytes.
type Memory struct {
	Proportional int64 `json:"proportional"` // Pss of proc(5)
	Resident     int64 `json:"resident"`
	Heap         int64 `json:"heap"` // in use, as Go counts it
}

const (
	perCoreLeast = 10_000 // keyed POSTs a second on the embedded store
	keyedMost    = 2.0    // times the CPU of the same without a key
	redisAdded   = 8      // µs
	replayLeast  = 2.0    // times as fast
	recordsLive  = 1_000_000
	liveMost     = 300 // MB

	// stepsOnDisk is how many fsyncs a keyed request waits for, one after the other: its claim's
	// and its response's. With so many clients who wait for each, a disk lets no more through than
	// clients × fsyncs a second / 2.
	stepsOnDisk = 2
)

func (r *Report) figure(store string, load measure.Load) *measure.Figure {
	for _, s := range r.Stores {
		if f := measure.FigureOf([]measure.Result{s.Result}, store, load); f != nil {
			return f
		}
	}
	return nil
}

// relate fills in what is compared.
func (r *Report) relate() {
	for _, s := range r.Stores {
		for load, f := range s.Figures {
			plain := r.figure(s.Name, loadPlain)
			if load.Rate > 0 {
				plain = r.figure(s.Name, loadPlainPaced)
			}
			f.ToPlain, f.Added = measure.Ratio(f, plain), measure.Difference(f, plain)
		}
	}
	if f := r.figure(embeddedStore, loadKeyed); f != nil && r.Fsyncs != nil && *r.Fsyncs > 0 {
		v := f.PerSecond / *r.Fsyncs
		r.PerFsync = &v
	}
}

// judge fills in the marks.
func (r *Report) judge() {
	add := func(m measure.Mark, figures ...*measure.Figure) { r.Marks = append(r.Marks, m.Judged(0, figures...)) }
	keyed, plain := r.figure(embeddedStore, loadKeyed), r.figure(embeddedStore, loadPlain)
	perCore := measure.Mark{What: "embedded store: keyed POSTs a second of the gateway's CPU", Limit: perCoreLeast,
		Unit: "/s", Least: true}
	achieved := measure.Mark{What: "embedded store: keyed POSTs a second, as far as the disk lets them",
		Limit: r.diskLets(), Unit: "/s", Least: true}
	if keyed != nil {
		for _, micros := range keyed.CPURounds {
			if micros > 0 {
				perCore.Rounds = append(perCore.Rounds, 1e6/micros)
			}
		}
		achieved.Rounds = keyed.PerSecondRounds
	}
	add(perCore, keyed)
	add(achieved, keyed)
	add(measure.Mark{What: "embedded store: CPU of a keyed POST against one without a key", Limit: keyedMost,
		Unit: " ×", Rounds: measure.Ratios(keyed, plain)}, keyed, plain)
	keyed, plain = r.figure(redisStore, loadKeyedPaced), r.figure(redisStore, loadPlainPaced)
	add(measure.Mark{What: fmt.Sprintf("Redis store: CPU that a key adds at %d/s", paceRate), Limit: redisAdded,
		Unit: " µs", Rounds: measure.Differences(keyed, plain)}, keyed, plain)
	for _, s := range r.Stores {
		keyed, replay := r.figure(s.Name, loadKeyed), r.figure(s.Name, loadReplay)
		add(measure.Mark{What: s.Name + ": CPU of a keyed POST that is forwarded against its replay",
			Limit: replayLeast, Unit: " ×", Least: true, Rounds: measure.Ratios(keyed, replay)}, keyed, replay)
	}
	add(r.liveMark())
	r.Withhold(r.Marks)
}

// diskLets returns how many keyed requests a second are asked of the embedded store on this disk.
func (r *Report) diskLets() float64 {
	for _, s := range r.Stores {
		if s.Name == embeddedStore && r.Fsyncs != nil {
			return min(perCoreLeast, float64(s.Connections)**r.Fsyncs/stepsOnDisk)
		}
	}
	return perCoreLeast
}

func (r *Report) liveMark() measure.Mark {
	m := measure.Mark{What: fmt.Sprintf("embedded store: memory of the gateway with %d live records", recordsLive),
		Limit: liveMost, Unit: " MB"}
	if r.Live != nil && r.Live.Failed == "" && r.Live.Records >= recordsLive {
		mb := float64(r.Live.After.Proportional) / 1e6
		m.Got = &mb
	}
	return m
}

// perSecondOfCPU returns how many requests one second of CPU time is enough for.
func perSecondOfCPU(f *measure.Figure) *float64 {
	if f == nil || f.CPUMicros <= 0 {
		return nil
	}
	v := 1e6 / f.CPUMicros
	return &v
}

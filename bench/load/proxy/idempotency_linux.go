package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keysBench is one run of bench idempotency.
type keysBench struct {
	bench
	o      IdempotencyOptions
	fsyncs []float64 // a second, by round
	paced  map[pacedLoad][]float64
	live   *Live
}

// RunIdempotency measures what keys cost on each store. A store that cannot be had is reported as missing; an error is returned when nothing could be
// measured at all, or ctx ended.
func RunIdempotency(ctx context.Context, o IdempotencyOptions) (*IdempotencyReport, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		o.Dir = diskDir()
	}
	fileSystem, err := fileSystemOf(o.Dir)
	if err != nil {
		return nil, err
	}
	b := &keysBench{bench: bench{o: o.general()}, o: o}
	err = b.within(o.Dir, func() error {
		if err := b.start(ctx); err != nil {
			return err
		}
		return b.measure(ctx)
	})
	if err != nil {
		return nil, err
	}
	return b.report(fileSystem), nil
}

// CompareIdempotency measures this program and another build of it, o.Against, interleaved: what each kind of request costs on
// each store. Errors are those of [Compare].
func CompareIdempotency(ctx context.Context, o IdempotencyOptions) (*Comparison, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		o.Dir = diskDir()
	}
	fileSystem, err := fileSystemOf(o.Dir)
	if err != nil {
		return nil, err
	}
	b := &keysBench{bench: bench{o: o.general()}, o: o}
	d := &builds{b: &b.bench, programs: [2]string{o.Program, o.Against}, rounds: o.Rounds, start: b.startStore, slice: b.slice}
	for _, c := range o.stores() {
		c.agreed = true // nothing in their configurations is new
		d.add(c, func(part string) bool { return c.asked(o.Only, part) }, false)
	}
	if len(d.subjects) == 0 {
		return nil, fmt.Errorf("proxy: --only %q matches no figure of a store", o.Only)
	}
	var found *Comparison
	err = b.within(o.Dir, func() error {
		if err := b.startUpstreams(ctx, false); err != nil {
			return err
		}
		if err := d.measure(ctx); err != nil {
			return err
		}
		found, err = d.comparison(ctx, "sluice bench idempotency")
		return err
	})
	if err != nil {
		return nil, err
	}
	found.FileSystem = fileSystem
	return found, nil
}

// diskDir returns a folder for temporary files that outlives a power cut: where /tmp is memory, an fsync costs nothing.
func diskDir() string {
	if kind, err := fileSystemOf(os.TempDir()); err == nil && kind == "tmpfs" {
		return "/var/tmp"
	}
	return os.TempDir()
}

// fileSystemOf returns the kind of file system that a folder is on.
func fileSystemOf(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("proxy: --dir: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("proxy: %w", err)
	}
	return mountKind(string(mounts), dir), nil
}

// mountKind finds the mount that a path is below; of several on one another the last is the one that is seen.
func mountKind(mounts, path string) string {
	kind, longest := "unknown", 0
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		at := strings.TrimSuffix(fields[1], "/") + "/"
		if strings.HasPrefix(path+"/", at) && len(at) >= longest {
			kind, longest = fields[2], len(at)
		}
	}
	return kind
}

// start starts the upstream and a gateway for each store.
func (b *keysBench) start(ctx context.Context) error {
	some := b.o.stores()
	if len(some) == 0 {
		return fmt.Errorf("proxy: --only %q matches no store", b.o.Only)
	}
	if err := b.startUpstreams(ctx, false); err != nil {
		return err
	}
	for _, c := range some {
		r := newRun(c)
		b.runs = append(b.runs, r)
		if err := b.startStore(ctx, r); err != nil {
			r.result.Missing = "not available: " + oneLine(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (b *keysBench) startStore(ctx context.Context, r *run) error {
	if r.name == redisStore {
		var err error
		if r.beside, err = b.startRedis(ctx); err != nil {
			return err
		}
		r.options = maps.Clone(r.options) // a contender may run more than once, each time with a server of its own
		r.options["Redis"] = r.beside.site.listen
	}
	return b.startContender(ctx, r)
}

// startRedis runs a Redis that is as durable as most are: it writes its log at once and has it on disk every second.
func (b *keysBench) startRedis(ctx context.Context) (*process, error) {
	path, err := find("redis-server")
	if err != nil {
		return nil, fmt.Errorf("not installed: %w", err)
	}
	s, err := b.newSite("")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		return nil, err
	}
	return start(ctx, exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"), s)
}

// measure runs all phases, each interleaved over the stores.
func (b *keysBench) measure(ctx context.Context) error {
	present := slices.DeleteFunc(slices.Clone(b.runs), func(r *run) bool { return r.process == nil })
	if len(present) == 0 {
		return fmt.Errorf("proxy: no store is there; %s: %s", b.runs[0].name, b.runs[0].result.Missing)
	}
	embedded := slices.ContainsFunc(present, func(r *run) bool { return r.name == embeddedStore })
	var p plan
	for round := range b.o.Rounds {
		what := fmt.Sprintf("round %d of %d", round+1, b.o.Rounds)
		if embedded {
			p.add(what, "bare fsync loop", b.fsync)
		}
		for _, r := range rotated(present, round) {
			for _, load := range r.loads {
				p.add(what, r.name+", "+load, func(ctx context.Context) error { return b.slice(ctx, r, load) })
			}
		}
	}
	for round := range b.o.Rounds {
		for _, r := range rotated(present, round) {
			if slices.Contains(r.loads, loadKeyed) {
				p.add(fmt.Sprintf("latency, round %d of %d", round+1, b.o.Rounds), r.name, func(ctx context.Context) error { return b.openLoad(ctx, r, loadKeyed) })
			}
		}
	}
	for round := range b.o.Rounds {
		for _, r := range rotated(present, round) {
			for _, load := range []string{loadPlain, loadKeyed} {
				if !slices.Contains(r.loads, load) {
					continue
				}
				p.add(fmt.Sprintf("same rate, round %d of %d", round+1, b.o.Rounds), r.name+", "+load, func(ctx context.Context) error { return b.pace(ctx, r, load) })
			}
		}
	}
	if embedded && b.o.Records > 0 {
		p.add(fmt.Sprintf("%d live records", b.o.Records), embeddedStore, b.fill)
	}
	return p.carryOut(ctx, b.progress)
}

// events are what the gateway has to count for each answer of a load: a replay that was executed again, say, would be none.
var events = map[string]string{loadKeyed: "claim", loadReplay: "replay"}

// slice is one load on one store, with a look at whether the gateway did what it is measured for.
func (b *keysBench) slice(ctx context.Context, r *run, load string) error {
	event := events[load]
	if event == "" {
		return b.bench.slice(ctx, r, load)
	}
	name := fmt.Sprintf(`sluice_idempotency_events_total{event=%q,route="keyed"}`, event)
	f := r.figure(load)
	answers := f.Requests
	before, err := readMetric(ctx, r.process.site.admin, name)
	if err == nil {
		err = b.bench.slice(ctx, r, load)
	}
	if ctx.Err() != nil || f.Failed != "" {
		return ctx.Err()
	}
	var after float64
	if err == nil {
		after, err = readMetric(ctx, r.process.site.admin, name)
	}
	answers = f.Requests - answers
	switch {
	case err != nil:
		f.Failed = oneLine(err)
	case int64(after-before) < answers:
		f.Failed = fmt.Sprintf("only %.0f of %d answers count as a %s", after-before, answers, event)
	}
	return ctx.Err()
}

// pace measures the CPU of a load at a rate that all stores keep up with. A gateway that waits for a store is idle in between, and to be woken costs it more than to go on: as many requests
// a second without a key cost more as well than what a gateway that never rests makes of them.
func (b *keysBench) pace(ctx context.Context, r *run, load string) error {
	l, err := dial(r.process.site.listen, r.connections, newRequest(load, "bench.example"))
	if err != nil {
		return ctx.Err() // its slices say why
	}
	defer l.close()
	if _, err := l.closed(ctx, b.o.Duration/20); err != nil {
		return ctx.Err()
	}
	before, err := cpuTime(r.process.PID())
	if err != nil {
		return err
	}
	t, err := l.open(ctx, b.o.Duration, paceRate)
	if err != nil {
		return ctx.Err()
	}
	after, err := cpuTime(r.process.PID())
	if err != nil {
		return err
	}
	if t.requests > 0 && t.errors == 0 {
		key := pacedLoad{r.name, load}
		if b.paced == nil {
			b.paced = map[pacedLoad][]float64{}
		}
		b.paced[key] = append(b.paced[key], float64((after-before).Microseconds())/float64(t.requests))
	}
	return ctx.Err()
}

// fsync measures what the disk gives: one writer that appends 4 KiB and waits for each.
func (b *keysBench) fsync(ctx context.Context) (err error) {
	const blockBytes = 4 << 10
	f, err := os.Create(filepath.Join(b.dir, "fsync"))
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, blockBytes)
	n, start := 0, time.Now()
	for ; n == 0 || time.Since(start) < b.o.Duration && ctx.Err() == nil; n++ {
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("proxy: fsync loop: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("proxy: fsync loop: %w", err)
		}
	}
	b.fsyncs = append(b.fsyncs, float64(n)/time.Since(start).Seconds())
	return nil
}

// fill measures the memory of live records: those of a gateway of its own, made by requests that nothing of expires.
func (b *keysBench) fill(ctx context.Context) error {
	some := b.o.stores()
	r := newRun(some[slices.IndexFunc(some, func(c contender) bool { return c.name == embeddedStore })])
	r.options["TTL"] = 24 * time.Hour
	b.live = new(Live)
	err := b.startContender(ctx, r)
	if r.process != nil {
		defer r.process.stop()
	}
	if err == nil {
		err = b.fillGateway(ctx, r)
	}
	if err != nil {
		b.live.Failed = oneLine(err)
	}
	return ctx.Err()
}

func (b *keysBench) fillGateway(ctx context.Context, r *run) error {
	d, err := b.newDriver(r, loadKeyed)
	if err != nil {
		return err
	}
	defer d.close()
	first, err := d.closed(ctx, b.o.Duration/4) // its pools and connections are no records
	if err != nil {
		return err
	}
	if b.live.Before, err = memoryOf(ctx, r.process); err != nil {
		return err
	}
	t, err := b.records(ctx, d, int64(b.o.Records)-first.requests)
	if err != nil {
		return err
	}
	b.live.Records = first.requests + t.requests
	if t.elapsed > 0 {
		b.live.PerSecond = float64(t.requests) / t.elapsed.Seconds()
	}
	if b.live.After, err = memoryOf(ctx, r.process); err != nil {
		return err
	}
	b.live.DiskBytes, err = diskBytes(filepath.Join(r.process.site.dir, "records"))
	return err
}

// records makes that many, or a few more.
func (b *keysBench) records(ctx context.Context, d driver, n int64) (sum tally, err error) {
	for sum.requests < n {
		t, err := d.closed(ctx, b.o.Duration)
		switch {
		case err != nil:
			return sum, err
		case t.errors > 0:
			return sum, fmt.Errorf("%d errors after %d records, first: %s", t.errors, sum.requests+t.requests, t.first)
		}
		sum.requests += t.requests
		sum.elapsed += t.elapsed
	}
	return sum, nil
}

// memoryOf returns a gateway's memory when it is quiet.
func memoryOf(ctx context.Context, p *process) (m Memory, err error) {
	if m.Proportional, err = quiet(ctx, p.PID()); err != nil {
		return m, err
	}
	resident, err := mapped(p.PID(), "Rss:")
	if err != nil {
		return m, fmt.Errorf("proxy: memory of process %d: %w", p.PID(), err)
	}
	m.Resident = resident << 10
	heap, err := readMetric(ctx, p.site.admin, "go_memstats_heap_inuse_bytes")
	m.Heap = int64(heap)
	return m, err
}

func readMetric(ctx context.Context, admin, name string) (float64, error) {
	text, err := readMetrics(ctx, admin)
	if err != nil {
		return 0, err
	}
	return metric(text, name)
}

// diskBytes returns what a folder's files take on the disk.
func diskBytes(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var at unix.Stat_t
		if err := unix.Lstat(path, &at); err != nil {
			return nil // the store has just thrown it away
		}
		const blockBytes = 512 // stat(2): of st_blocks, whatever the file system's are
		sum += at.Blocks * blockBytes
		return nil
	})
	return sum, err
}

// report settles what was measured.
func (b *keysBench) report(fileSystem string) *IdempotencyReport {
	rep := &IdempotencyReport{
		At: time.Now().UTC(), Processors: b.processors.all.Count(), Apart: b.processors.apart(), Upstream: b.upstream.program, FileSystem: fileSystem,
		Duration: b.o.Duration, Rounds: b.o.Rounds, Rate: b.o.Rate, Quick: b.o.Quick, Live: b.live,
	}
	if len(b.fsyncs) > 0 {
		v := median(b.fsyncs)
		rep.Fsyncs = &v
	}
	for _, r := range b.runs {
		for load, f := range r.result.Figures {
			f.settle(r.samples[load], r.metrics)
		}
		if r.result.Latency == nil && len(r.latency) > 0 {
			r.result.Latency = newLatency(r.latency)
		}
		s := StoreResult{Result: *r.result, Connections: r.connections}
		if plain, keyed := b.paced[pacedLoad{r.name, loadPlain}], b.paced[pacedLoad{r.name, loadKeyed}]; len(plain) > 0 && len(keyed) > 0 {
			s.Paced = &Paced{Rate: paceRate, Plain: median(plain), Keyed: median(keyed)}
		}
		rep.Stores = append(rep.Stores, s)
	}
	rep.relate()
	if !rep.Quick {
		rep.judge()
	}
	return rep
}

package idempotency

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

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// bench is one run of the command.
type bench struct {
	measure.Bench
	o      Options
	fsyncs []float64 // a second, by round
	live   *Live
}

// newBench returns a run that is not started yet, and the kind of file system that its records are
// on.
func newBench(o Options) (*bench, string, error) {
	if err := o.check(); err != nil {
		return nil, "", err
	}
	if o.Dir == "" {
		o.Dir = diskDir()
	}
	fileSystem, err := fileSystemOf(o.Dir)
	if err != nil {
		return nil, "", err
	}
	return &bench{Bench: measure.Bench{Options: o.general()}, o: o}, fileSystem, nil
}

// Run measures what keys cost on each store. A store that cannot be had is reported as missing; an
// error is returned when nothing could be measured at all, or ctx ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	b, fileSystem, err := newBench(o)
	if err != nil {
		return nil, err
	}
	some := measure.Chosen(b.o.stores(), o.Only)
	if len(some) == 0 {
		return nil, fmt.Errorf("idempotency: --only %q matches no store", o.Only)
	}
	err = b.Within(b.o.Dir, func() error {
		if err := b.StartUpstreams(ctx, false); err != nil {
			return err
		}
		if err := b.StartAll(ctx, some, b.startStore); err != nil {
			return err
		}
		return b.drive(ctx)
	})
	if err != nil {
		return nil, err
	}
	return b.report(fileSystem), nil
}

// Compare measures this program and another build of it, o.Against, interleaved: what each kind of
// request costs on each store. An error is returned when a build did not start, or ctx ended; what
// else could not be measured is in the figures, see [measure.Comparison.Err].
func Compare(ctx context.Context, o Options) (*measure.Comparison, error) {
	b, fileSystem, err := newBench(o)
	if err != nil {
		return nil, err
	}
	builds := measure.Builds{Command: "sluice bench idempotency", Bench: &b.Bench, Start: b.startStore, Slice: b.slice}
	figures := 0
	for _, c := range b.o.stores() {
		c.Agreed = true // nothing in their configurations is new
		if builds.Add(c, false) {
			figures++
		}
	}
	if figures == 0 {
		return nil, fmt.Errorf("idempotency: --only %q matches no figure of a store", o.Only)
	}
	var found *measure.Comparison
	err = b.Within(b.o.Dir, func() (err error) {
		if err := b.StartUpstreams(ctx, false); err != nil {
			return err
		}
		found, err = builds.Compare(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	found.FileSystem = fileSystem
	return found, nil
}

// diskDir returns a folder for temporary files that outlives a power cut: where /tmp is memory, an
// fsync costs nothing.
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
		return "", fmt.Errorf("idempotency: --dir: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("idempotency: %w", err)
	}
	return mountKind(string(mounts), dir), nil
}

// mountKind finds the mount that a path is below; of several on one another the last is the one
// that is seen.
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

func (b *bench) startStore(ctx context.Context, r *measure.Run) error {
	if r.Name == redisStore {
		var err error
		if r.Beside, err = b.startRedis(ctx); err != nil {
			return err
		}
		r.Settings = maps.Clone(r.Settings) // a contender may run more than once, each time with a server of its own
		r.Settings["Redis"] = r.Beside.Site.Listen
	}
	return b.Start(ctx, r)
}

// startRedis runs a Redis that is as durable as most are: it writes its log at once and has it on
// disk every second.
func (b *bench) startRedis(ctx context.Context) (*measure.Process, error) {
	path, err := child.Find("redis-server")
	if err != nil {
		return nil, fmt.Errorf("not installed: %w", err)
	}
	s, err := b.NewSite("")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return nil, err
	}
	return measure.StartProcess(ctx, exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--dir", s.Dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "everysec"), s)
}

// drive runs all phases, each interleaved over the stores.
func (b *bench) drive(ctx context.Context) error {
	present, err := b.Present()
	if err != nil {
		return err
	}
	embedded := slices.ContainsFunc(present, func(r *measure.Run) bool { return r.Name == embeddedStore })
	var p measure.Plan
	for round := range b.o.Rounds {
		what := fmt.Sprintf("round %d of %d", round+1, b.o.Rounds)
		if embedded {
			p.Add(what, "bare fsync loop", b.fsync)
		}
		for _, r := range measure.Rotated(present, round) {
			for _, load := range r.Loads {
				p.Add(what, r.Name+", "+load.Name, func(ctx context.Context) error { return b.slice(ctx, r, load) })
			}
		}
	}
	for round := range b.o.Rounds {
		for _, r := range measure.Rotated(present, round) {
			if slices.Contains(r.Loads, loadKeyed) {
				p.Add(fmt.Sprintf("latency, round %d of %d", round+1, b.o.Rounds), r.Name,
					func(ctx context.Context) error { return b.OpenLoop(ctx, r, loadKeyed) })
			}
		}
	}
	if embedded && b.o.Records > 0 {
		p.Add(fmt.Sprintf("%d live records", b.o.Records), embeddedStore, b.fill)
	}
	return b.CarryOut(ctx, p)
}

// events are what the gateway has to count for each response of a load: a replay that was executed
// again, say, would be none.
var events = map[measure.Load]string{loadKeyed: "claim", loadKeyedPaced: "claim", loadReplay: "replay"}

// count returns how many of an event the gateway has counted. Gateways before this one, which it may be measured
// against, counted all events in one metric.
func count(ctx context.Context, r *measure.Run, event string) (float64, error) {
	n, err := measure.ReadMetric(ctx, r.Process.Site.Admin, fmt.Sprintf(`sluice_idempotency_%ss_total{route="keyed"}`,
		event))
	if err == nil {
		return n, nil
	}
	old, oldErr := measure.ReadMetric(ctx, r.Process.Site.Admin,
		fmt.Sprintf(`sluice_idempotency_events_total{event=%q,route="keyed"}`, event))
	if oldErr != nil {
		return 0, err
	}
	return old, nil
}

// Slice is one load on one store, with a look at whether the gateway did what it is measured for.
func (b *bench) slice(ctx context.Context, r *measure.Run, load measure.Load) error {
	event := events[load]
	if event == "" {
		return b.Bench.Slice(ctx, r, load)
	}
	f := r.Figure(load)
	responses := f.Requests
	before, err := count(ctx, r, event)
	if err == nil {
		err = b.Bench.Slice(ctx, r, load)
	}
	if ctx.Err() != nil || f.Failed != "" {
		return ctx.Err()
	}
	var after float64
	if err == nil {
		after, err = count(ctx, r, event)
	}
	responses = f.Requests - responses
	switch {
	case err != nil:
		f.Failed = measure.OneLine(err)
	case int64(after-before) < responses:
		f.Failed = fmt.Sprintf("only %.0f of %d responses count as a %s", after-before, responses, event)
	}
	return ctx.Err()
}

// fsync measures what the disk gives: one writer that appends 4 KiB and waits for each.
func (b *bench) fsync(ctx context.Context) (err error) {
	const blockBytes = 4 << 10
	f, err := os.Create(filepath.Join(b.Dir, "fsync"))
	if err != nil {
		return fmt.Errorf("idempotency: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, blockBytes)
	n, start := 0, time.Now()
	for ; n == 0 || time.Since(start) < b.o.Duration && ctx.Err() == nil; n++ {
		if _, err := f.Write(block); err != nil {
			return fmt.Errorf("idempotency: fsync loop: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("idempotency: fsync loop: %w", err)
		}
	}
	b.fsyncs = append(b.fsyncs, float64(n)/time.Since(start).Seconds())
	return nil
}

// fill measures the memory of live records: those of a gateway of its own, made by requests that
// nothing of expires.
func (b *bench) fill(ctx context.Context) error {
	some := b.o.stores()
	r := measure.NewRun(some[slices.IndexFunc(some, func(c measure.Contender) bool { return c.Name == embeddedStore })])
	r.Settings["TTL"] = 24 * time.Hour
	b.live = new(Live)
	err := b.Start(ctx, r)
	if r.Process != nil {
		defer r.Process.Shutdown()
	}
	if err == nil {
		err = b.fillGateway(ctx, r)
	}
	if err != nil {
		b.live.Failed = measure.OneLine(err)
	}
	return ctx.Err()
}

func (b *bench) fillGateway(ctx context.Context, r *measure.Run) error {
	d, err := b.NewDriver(r, loadKeyed)
	if err != nil {
		return err
	}
	defer d.Close()
	first, err := d.Closed(ctx, b.o.Duration/4) // its pools and connections are no records
	if err != nil {
		return err
	}
	if b.live.Before, err = memoryOf(ctx, r.Process); err != nil {
		return err
	}
	t, err := b.records(ctx, d, int64(b.o.Records)-first.Requests)
	if err != nil {
		return err
	}
	b.live.Records = first.Requests + t.Requests
	if t.Elapsed > 0 {
		b.live.PerSecond = float64(t.Requests) / t.Elapsed.Seconds()
	}
	if b.live.After, err = memoryOf(ctx, r.Process); err != nil {
		return err
	}
	b.live.DiskBytes, err = diskBytes(filepath.Join(r.Process.Site.Dir, "records"))
	return err
}

// records makes that many, or a few more.
func (b *bench) records(ctx context.Context, d measure.Driver, n int64) (sum measure.Tally, err error) {
	for sum.Requests < n {
		t, err := d.Closed(ctx, b.o.Duration)
		switch {
		case err != nil:
			return sum, err
		case t.Errors > 0:
			return sum, fmt.Errorf("%d errors after %d records, first: %s", t.Errors, sum.Requests+t.Requests, t.First)
		}
		sum.Requests += t.Requests
		sum.Elapsed += t.Elapsed
	}
	return sum, nil
}

// memoryOf returns a gateway's memory when it is quiet.
func memoryOf(ctx context.Context, p *measure.Process) (m Memory, err error) {
	if m.Proportional, err = measure.QuietMemory(ctx, p.PID()); err != nil {
		return m, err
	}
	resident, err := measure.MappedMemory(p.PID(), "Rss:")
	if err != nil {
		return m, fmt.Errorf("idempotency: memory of process %d: %w", p.PID(), err)
	}
	m.Resident = resident << 10
	heap, err := measure.ReadMetric(ctx, p.Site.Admin, "go_memstats_heap_inuse_bytes")
	m.Heap = int64(heap)
	return m, err
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
func (b *bench) report(fileSystem string) *Report {
	rep := &Report{Setting: b.Setting(), FileSystem: fileSystem, Rate: b.o.Rate, Quick: b.o.Quick, Live: b.live}
	if len(b.fsyncs) > 0 {
		v := measure.Median(b.fsyncs)
		rep.Fsyncs = &v
	}
	for _, r := range b.Runs {
		r.Settle()
		s := StoreResult{Result: *r.Result, Connections: r.Connections}
		rep.Stores = append(rep.Stores, s)
	}
	rep.relate()
	if !rep.Quick {
		rep.judge()
	}
	return rep
}

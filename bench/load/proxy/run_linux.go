package proxy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

// warmRequests are what a contender has answered on before its memory is looked at: enough to have its pools and pages there.
const warmRequests = 100

// bench is one run.
type bench struct {
	o          Options
	processors processors
	dir        string
	files      int // that each process may open
	progress   *progress
	upstream   *process
	direct     *process // the upstream that speaks cleartext HTTP/2; nil where nobody needs it
	runs       []*run
}

// run is one contender in this run.
type run struct {
	contender
	build   string   // of the gateway; empty is this program
	process *process // nil: not available
	beside  *process // what it needs beside it and shares with no other run; nil: nothing
	result  *Result
	samples map[string][]sample
	latency []tally // by round
}

func newRun(c contender) *run {
	return &run{contender: c, result: &Result{Name: c.name, Figures: map[string]*Figure{}}, samples: map[string][]sample{}}
}

// figure returns the figure of a load, a new one at first.
func (r *run) figure(load string) *Figure {
	f := r.result.Figures[load]
	if f == nil {
		f = new(Figure)
		r.result.Figures[load] = f
	}
	return f
}

// driver is a closed loop.
type driver interface {
	closed(context.Context, time.Duration) (tally, error)
	close()
}

// Run measures. A contender that is not installed or does not start is reported as missing; an error is returned when nothing could be
// measured at all, or ctx ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &bench{o: o}
	err := b.within("", func() error {
		if err := b.start(ctx); err != nil {
			return err
		}
		return b.measure(ctx)
	})
	if err != nil {
		return nil, err
	}
	return b.report(), nil
}

// within runs f on the processor of load and upstream, with a folder within parent (empty: the system's for such), and cleans up: all processes end,
// the folder goes.
func (b *bench) within(parent string, f func() error) (err error) {
	if b.processors, err = newProcessors(); err != nil {
		return err
	}
	back, err := b.processors.moveSelf()
	if err != nil {
		return err
	}
	defer func() { _ = back() }() // it worked the other way round
	if b.files, err = raiseFiles(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(parent, "sluice-bench-"); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	defer os.RemoveAll(b.dir)
	defer b.stop()
	return f()
}

func (b *bench) stop() {
	b.stopRuns()
	stopAll(b.upstream, b.direct)
}

// stopRuns stops the contenders.
func (b *bench) stopRuns() {
	for _, r := range b.runs {
		stopAll(r.process, r.beside)
	}
}

func stopAll(processes ...*process) {
	for _, p := range processes {
		if p != nil {
			p.stop()
		}
	}
}

// start starts everything. The contenders idle while they are not driven.
func (b *bench) start(ctx context.Context) error {
	some := chosen(contenders(), b.o.Only)
	if len(some) == 0 {
		return fmt.Errorf("proxy: --only %q matches no contender", b.o.Only)
	}
	if err := b.startUpstreams(ctx, slices.ContainsFunc(some, func(c contender) bool { return c.direct })); err != nil {
		return err
	}
	for _, c := range some {
		r := newRun(c)
		b.runs = append(b.runs, r)
		if err := b.startContender(ctx, r); err != nil {
			r.result.Missing = "not available: " + oneLine(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// startUpstreams starts what all contenders lead to; direct asks for the one that speaks cleartext HTTP/2 too.
func (b *bench) startUpstreams(ctx context.Context, direct bool) (err error) {
	b.progress = newProgress(b.o.Progress, b.o.Terminal)
	if b.upstream, err = b.startUpstream(ctx); err != nil {
		return fmt.Errorf("proxy: the upstream: %w", err)
	}
	if direct {
		if b.direct, err = b.startPartUpstream(ctx); err != nil {
			return fmt.Errorf("proxy: the upstream of gRPC: %w", err)
		}
	}
	return nil
}

// newSite returns fresh addresses and a folder.
func (b *bench) newSite(upstream string) (site, error) {
	s := site{upstream: upstream, files: b.files}
	var err error
	if s.dir, err = os.MkdirTemp(b.dir, ""); err != nil {
		return s, err
	}
	if s.listen, err = freeport.Pick(); err != nil {
		return s, err
	}
	s.admin, err = freeport.Pick()
	return s, err
}

// startUpstream runs nginx with fixed answers, or our own where there is none.
func (b *bench) startUpstream(ctx context.Context) (*process, error) {
	path, err := find(nginx)
	if err != nil {
		return b.startPartUpstream(ctx)
	}
	s, err := b.newSite("")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "nginx.conf")
	if err := writeTemplate(file, "upstream.conf.tmpl", s, map[string]any{"Answer": smallAnswer}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "big"), bigAnswer, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, exec.Command(path, programArgs(nginx, file)...), s)
}

func (b *bench) startPartUpstream(ctx context.Context) (*process, error) {
	s, err := b.newSite("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return start(ctx, exec.Command(b.o.Program, "bench", "part", "upstream", s.listen, s.admin, "http://"+s.upstream), s)
}

func (b *bench) startContender(ctx context.Context, r *run) error {
	up := b.upstream
	if r.direct {
		up = b.direct
	}
	s, err := b.newSite(up.site.listen)
	if err != nil {
		return err
	}
	program := b.o.Program
	if r.build != "" {
		program = r.build
	}
	cmd, note, err := r.command(program, s)
	if err != nil {
		return err
	}
	r.result.Note = note
	if r.process, err = start(ctx, cmd, s); err != nil {
		return err
	}
	return b.processors.moveContender(r.process.PID())
}

// measure runs all phases, each interleaved over the contenders.
func (b *bench) measure(ctx context.Context) error {
	var p plan
	step := func(what string, r *run, f func(context.Context, *run) error) {
		p.add(what, r.name, func(ctx context.Context) error { return f(ctx, r) })
	}
	present := slices.DeleteFunc(slices.Clone(b.runs), func(r *run) bool { return r.process == nil })
	if len(present) == 0 {
		return fmt.Errorf("proxy: no contender is there; %s: %s", b.runs[0].name, b.runs[0].result.Missing)
	}
	for _, r := range present {
		if slices.Contains(r.loads, loadGet) {
			step("idle connections", r, b.idle)
		}
	}
	for _, load := range loads {
		for round := range b.o.Rounds {
			for _, r := range rotated(present, round) {
				if slices.Contains(r.loads, load) {
					step(fmt.Sprintf("%s, round %d of %d", load, round+1, b.o.Rounds), r, func(ctx context.Context, r *run) error { return b.slice(ctx, r, load) })
				}
			}
		}
	}
	for round := range b.o.Rounds {
		for _, r := range rotated(present, round) {
			if slices.Contains(r.loads, loadGet) {
				step(fmt.Sprintf("latency, round %d of %d", round+1, b.o.Rounds), r, b.open)
			}
		}
	}
	return p.carryOut(ctx, b.progress)
}

// plan is what a run does, step by step.
type plan []step

type step struct {
	what, whom string
	do         func(context.Context) error
}

func (p *plan) add(what, whom string, do func(context.Context) error) {
	*p = append(*p, step{what, whom, do})
}

// carryOut ends with the first error; what goes wrong with one contender is none.
func (p plan) carryOut(ctx context.Context, shown *progress) error {
	shown.total = len(p)
	defer shown.end()
	for _, s := range p {
		shown.step(s.what, s.whom)
		if err := s.do(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// rotated begins with another contender in each round, so that none always comes after the same one.
func rotated(runs []*run, round int) []*run {
	if len(runs) == 0 {
		return nil
	}
	at := round % len(runs)
	return slices.Concat(runs[at:], runs[:at])
}

// newDriver opens the connections of a load.
func (b *bench) newDriver(r *run, load string) (driver, error) {
	if load == loadH2 || load == loadGRPC {
		return newH2Load(r.process.site.listen, load == loadGRPC), nil
	}
	connections := b.o.Connections
	if r.connections > 0 {
		connections = r.connections
	}
	return dial(r.process.site.listen, connections, newRequest(load, "bench.example"))
}

// warm has connections and pools there before the clock is read, and for replays the answers.
func (b *bench) warm(ctx context.Context, d driver, load string) error {
	t, err := d.closed(ctx, b.o.Duration/4)
	for done := t.requests; load == loadReplay && done < users && err == nil; done += t.requests {
		if t, err = d.closed(ctx, b.o.Duration/4); err == nil && t.requests == 0 {
			return fmt.Errorf("proxy: no answers: %s", t.first)
		}
	}
	return err
}

// slice drives one load against one contender. What goes wrong with the contender stands in its figure; an error is the end of the run.
func (b *bench) slice(ctx context.Context, r *run, load string) error {
	f := r.figure(load)
	if f.Failed != "" {
		return nil
	}
	s, t, err := b.drive(ctx, r, load)
	f.Requests += t.requests
	f.Errors += t.errors
	if f.FirstError == "" {
		f.FirstError = t.first
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		f.Failed = err.Error()
	case t.requests == 0:
		f.Failed = "no answers: " + t.first
	default:
		r.samples[load] = append(r.samples[load], s)
	}
	return nil
}

func (b *bench) drive(ctx context.Context, r *run, load string) (s sample, t tally, err error) {
	d, err := b.newDriver(r, load)
	if err != nil {
		return s, t, err
	}
	defer d.close()
	if err := b.warm(ctx, d, load); err != nil {
		return s, t, err
	}
	var before, reading, after float64
	if r.metrics {
		if before, reading, err = mallocs(ctx, r.process.site.admin); err != nil {
			return s, t, err
		}
	}
	cpuBefore, err := cpuTime(r.process.PID())
	if err != nil {
		return s, t, err
	}
	if t, err = d.closed(ctx, b.o.Duration); err != nil {
		return s, t, err
	}
	cpuAfter, err := cpuTime(r.process.PID())
	if err != nil {
		return s, t, err
	}
	if r.metrics {
		if after, err = readMallocs(ctx, r.process.site.admin); err != nil {
			return s, t, err
		}
	}
	n := float64(max(t.requests, 1))
	return sample{
		cpuMicros: float64(cpuAfter-cpuBefore) / 1e3 / n,
		perSecond: float64(t.requests) / t.elapsed.Seconds(),
		mallocs:   (after - before - reading) / n,
	}, t, nil
}

// open measures a GET's latency at the fixed rate.
func (b *bench) open(ctx context.Context, r *run) error { return b.openLoad(ctx, r, loadGet) }

func (b *bench) openLoad(ctx context.Context, r *run, load string) error {
	if r.result.Latency != nil {
		return nil // given up
	}
	l, err := dial(r.process.site.listen, b.o.Connections, newRequest(load, "bench.example"))
	if err == nil {
		defer l.close()
		// Connections and pools are warm before the first request that counts.
		_, err = l.closed(ctx, b.o.Duration/20)
	}
	var t tally
	if err == nil {
		t, err = l.open(ctx, b.o.Duration, b.o.Rate)
	}
	r.latency = append(r.latency, t)
	if err != nil && ctx.Err() == nil {
		r.result.Latency = &Latency{Failed: err.Error(), Errors: t.errors, FirstError: t.first}
	}
	return ctx.Err()
}

// idle measures what an idle connection costs, on a contender that has done nothing else yet.
func (b *bench) idle(ctx context.Context, r *run) error {
	n, err := b.idleBytes(ctx, r.process)
	if err != nil {
		r.result.IdleError = err.Error()
	} else {
		r.result.IdleBytes = &n
	}
	return ctx.Err()
}

func (b *bench) idleBytes(ctx context.Context, p *process) (float64, error) {
	request := newRequest(loadGet, "bench.example")
	for range warmRequests {
		if err := askOnce(ctx, p.site.listen, 1, request, func() error { return nil }); err != nil {
			return 0, err
		}
	}
	before, err := quiet(ctx, p.PID())
	if err != nil {
		return 0, err
	}
	var after int64
	err = askOnce(ctx, p.site.listen, b.o.IdleConnections, request, func() (err error) {
		after, err = quiet(ctx, p.PID())
		return err
	})
	return float64(after-before) / float64(b.o.IdleConnections), err
}

// askOnce opens connections, sends one request on each and then calls f while they are idle.
func askOnce(ctx context.Context, address string, connections int, r *request, f func() error) error {
	l, err := dial(address, connections, r)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.one(ctx); err != nil {
		return err
	}
	return f()
}

const (
	quietEvery = 200 * time.Millisecond
	quietLimit = 5 * time.Second
)

// quiet returns a process' memory when two readings in a row are the same but for a hundredth, or the last one at the limit.
func quiet(ctx context.Context, pid int) (int64, error) {
	last, err := memory(pid)
	for waited := time.Duration(0); err == nil && waited < quietLimit; waited += quietEvery {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(quietEvery):
		}
		var now int64
		if now, err = memory(pid); err != nil {
			return 0, err
		}
		if difference := now - last; max(difference, -difference) < now/100 {
			return now, nil
		}
		last = now
	}
	return last, err
}

// report settles what was measured.
func (b *bench) report() *Report {
	rep := &Report{
		At: time.Now().UTC(), Processors: b.processors.all.Count(), Apart: b.processors.apart(), Upstream: b.upstream.program,
		Duration: b.o.Duration, Rounds: b.o.Rounds, Connections: b.o.Connections, Idle: b.o.IdleConnections, Rate: b.o.Rate,
	}
	for _, r := range b.runs {
		for load, f := range r.result.Figures {
			f.settle(r.samples[load], r.metrics)
			if !slices.Contains(rep.Loads, load) {
				rep.Loads = append(rep.Loads, load)
			}
		}
		if r.result.Latency == nil && len(r.latency) > 0 {
			r.result.Latency = newLatency(r.latency)
		}
		rep.Contenders = append(rep.Contenders, *r.result)
	}
	slices.SortFunc(rep.Loads, func(a, b string) int { return slices.Index(loads, a) - slices.Index(loads, b) })
	rep.relate()
	rep.judge()
	return rep
}

package measure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

// Bench is one run of a command: the processes that it starts, where they run, and how far it is.
// It is for one goroutine.
type Bench struct {
	Options    Options
	processors processors
	Dir        string
	files      int // that each process may open
	progress   *progress
	upstream   *Process
	direct     *Process // the upstream that speaks cleartext HTTP/2; nil where nobody needs it
	others     others
	Runs       []*Run
}

// Run is one contender in this run. The zero value is not usable; see [NewRun].
type Run struct {
	Contender
	Build     string   // of the gateway; empty is this program
	Process   *Process // nil: not available
	Beside    *Process // what it needs beside it and shares with no other run; nil: nothing
	Result    *Result
	samples   map[Load][]sample
	latencies []Tally // by round
}

// NewRun returns a run of a contender that is not started yet.
func NewRun(c Contender) *Run {
	return &Run{Contender: c, Result: &Result{Name: c.Name, Figures: map[Load]*Figure{}}, samples: map[Load][]sample{}}
}

// Figure returns the figure of a load, a new one at first.
func (r *Run) Figure(load Load) *Figure {
	f := r.Result.Figures[load]
	if f == nil {
		f = new(Figure)
		r.Result.Figures[load] = f
	}
	return f
}

// Settle computes figures and latency from what was measured.
func (r *Run) Settle() {
	for load, f := range r.Result.Figures {
		f.settle(r.samples[load], r.Metrics)
	}
	if r.Result.Latency == nil && len(r.latencies) > 0 {
		r.Result.Latency = NewLatency(r.latencies)
	}
}

// Within runs f on the processor of load and upstream, with a folder within parent (empty: the
// system's for such), and cleans up: all processes end, the folder goes.
func (b *Bench) Within(parent string, f func() error) (err error) {
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
	if b.Dir, err = os.MkdirTemp(parent, "sluice-bench-"); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	defer os.RemoveAll(b.Dir)
	defer b.stop()
	return f()
}

func (b *Bench) stop() {
	b.stopRuns()
	stopAll(b.upstream, b.direct)
}

// stopRuns stops the contenders.
func (b *Bench) stopRuns() {
	for _, r := range b.Runs {
		stopAll(r.Process, r.Beside)
	}
}

func stopAll(processes ...*Process) {
	for _, p := range processes {
		if p != nil {
			p.Shutdown()
		}
	}
}

// StartAll starts contenders, each by start. One that cannot be had is reported as missing. They
// idle while they are not driven.
func (b *Bench) StartAll(ctx context.Context, some []Contender, start func(context.Context, *Run) error) error {
	for _, c := range some {
		r := NewRun(c)
		b.Runs = append(b.Runs, r)
		if err := start(ctx, r); err != nil {
			r.Result.Missing = "not available: " + OneLine(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Present returns the runs that were started; an error when there is none.
func (b *Bench) Present() ([]*Run, error) {
	present := slices.DeleteFunc(slices.Clone(b.Runs), func(r *Run) bool { return r.Process == nil })
	if len(present) == 0 {
		return nil, fmt.Errorf("measure: nothing is there to be measured; %s: %s", b.Runs[0].Name,
			b.Runs[0].Result.Missing)
	}
	return present, nil
}

// CarryOut runs a plan. It ends with the first error; what goes wrong with one contender is none.
// Meanwhile it measures what other programs take of the machine.
func (b *Bench) CarryOut(ctx context.Context, p Plan) error {
	if err := b.others.begin(); err != nil {
		return err
	}
	if err := p.run(ctx, b.progress); err != nil {
		return err
	}
	return b.others.end()
}

// Setting returns what was measured where, for the report.
func (b *Bench) Setting() Setting {
	return Setting{
		At: time.Now().UTC(), Processors: b.processors.all.Count(), Apart: b.processors.apart(),
		Upstream: b.upstream.program,
		Duration: b.Options.Duration, Rounds: b.Options.Rounds, Congestion: congestionControl(),
		Others: b.others.share(b.processors.all.Count()), JudgeBusy: b.Options.JudgeBusy,
	}
}

// StartUpstreams starts what all contenders lead to; direct asks for the one that speaks cleartext
// HTTP/2 too.
func (b *Bench) StartUpstreams(ctx context.Context, direct bool) (err error) {
	b.progress = newProgress(b.Options.Progress, b.Options.Terminal)
	if b.upstream, err = b.startUpstream(ctx); err != nil {
		return fmt.Errorf("measure: the upstream: %w", err)
	}
	if direct {
		if b.direct, err = b.startPartUpstream(ctx); err != nil {
			return fmt.Errorf("measure: the upstream of gRPC: %w", err)
		}
	}
	return nil
}

// NewSite returns fresh addresses and a folder.
func (b *Bench) NewSite(upstream string) (Site, error) {
	s := Site{Upstream: upstream, files: b.files}
	var err error
	if s.Dir, err = os.MkdirTemp(b.Dir, ""); err != nil {
		return s, err
	}
	if s.Listen, err = freeport.Pick(); err != nil {
		return s, err
	}
	s.Admin, err = freeport.Pick()
	return s, err
}

// startUpstream runs nginx with fixed responses, or our own where there is none.
func (b *Bench) startUpstream(ctx context.Context) (*Process, error) {
	path, err := child.Find("nginx")
	if err != nil {
		return b.startPartUpstream(ctx)
	}
	s, err := b.NewSite("")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.Dir, "nginx.conf")
	if err := writeTemplate(upstreamTemplates, file, "upstream.conf.tmpl", s,
		map[string]any{"Response": smallResponse}); err != nil {
		return nil, err
	}
	for path, response := range map[string][]byte{BigPath: bigResponse, HugePath: hugeResponse} {
		if err := os.WriteFile(filepath.Join(s.Dir, path), response, 0o600); err != nil {
			return nil, err
		}
	}
	return StartProcess(ctx, exec.Command(path, programArgs("nginx", file)...), s)
}

func (b *Bench) startPartUpstream(ctx context.Context) (*Process, error) {
	s, err := b.NewSite("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return StartProcess(ctx, exec.Command(b.Options.Program, "bench", "part", "upstream", s.Listen, s.Admin,
		"http://"+s.Upstream), s)
}

// Start runs a contender on the processor of the contenders.
func (b *Bench) Start(ctx context.Context, r *Run) error {
	up := b.upstream
	if r.Direct {
		up = b.direct
	}
	s, err := b.NewSite(up.Site.Listen)
	if err != nil {
		return err
	}
	program := b.Options.Program
	if r.Build != "" {
		program = r.Build
	}
	cmd, note, err := r.command(program, s)
	if err != nil {
		return err
	}
	r.Result.Note = note
	if r.Process, err = StartProcess(ctx, cmd, s); err != nil {
		return err
	}
	return b.processors.moveContender(r.Process.PID())
}

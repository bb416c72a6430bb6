package growth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

const (
	reloadRate   = 500 // requests a second meanwhile
	reloadFor    = 2 * time.Second
	quickFor     = 500 * time.Millisecond
	reloadLimit  = 20 * time.Second
	reloadRounds = 5
)

// bench is one run.
type bench struct {
	*measure.Bench
	o         Options
	upstreams *measure.Process // with an address for each endpoint; nil where there is no nginx
	addresses []string
	report    *Report
}

// step is one step of an axis under way.
type step struct {
	*measure.Run
	axis  *axis
	items int
	point *Point
}

// Run measures. What goes wrong with one step stands in its point; an error is returned when nothing could be measured
// at all, or ctx ended.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	list := axes()
	some := slices.DeleteFunc(slices.Clone(list), func(a axis) bool {
		return o.Only != nil && !o.Only.MatchString(a.name)
	})
	if len(some) == 0 {
		return nil, fmt.Errorf("growth: --only %q matches nothing that can be many", o.Only)
	}
	b := &bench{o: o, Bench: &measure.Bench{Options: measure.Options{
		Program: o.Program, Duration: o.Duration, Rounds: o.Rounds, Connections: o.Connections,
		Progress: o.Progress, Terminal: o.Terminal,
	}}}
	err := b.Within("", func() error {
		if err := b.StartUpstreams(ctx, false); err != nil {
			return err
		}
		if err := b.startEndpoints(ctx, mostServers(list)); err != nil {
			return err
		}
		if b.upstreams != nil {
			defer b.upstreams.Shutdown()
		}
		b.report = &Report{Setting: b.Setting(), Connections: o.Connections, Quick: o.Quick}
		var p measure.Plan
		for i := range some {
			b.plan(&p, &some[i])
		}
		return b.CarryOut(ctx, p)
	})
	if err != nil {
		return nil, err
	}
	b.report.settle()
	return b.report, nil
}

// startEndpoints starts a server with that many addresses. Without nginx there is none.
func (b *bench) startEndpoints(ctx context.Context, n int) error {
	program, err := child.Find("nginx")
	if err != nil {
		return nil
	}
	s, err := b.NewSite("")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return err
	}
	for i := range n {
		b.addresses = append(b.addresses, fmt.Sprintf("127.0.0.%d:%s", i+1, port))
	}
	var text bytes.Buffer
	values := map[string]any{"Dir": s.Dir, "Addresses": b.addresses}
	if err := configurations.ExecuteTemplate(&text, "upstreams.conf.tmpl", values); err != nil {
		return err
	}
	file := filepath.Join(s.Dir, "nginx.conf")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return err
	}
	b.upstreams, err = measure.StartProcess(ctx, exec.Command(program, "-p", s.Dir, "-c", file), s)
	return err
}

// plan adds the steps of one axis.
func (b *bench) plan(p *measure.Plan, a *axis) {
	found := &Axis{Name: a.name, memory: a.memory, start: a.start}
	b.report.Axes = append(b.report.Axes, found)
	numbers := a.steps
	if b.o.Quick {
		numbers = numbers[:2]
	}
	var steps []*step
	for _, n := range numbers {
		s := &step{axis: a, items: n, point: &Point{Items: n}}
		found.Points = append(found.Points, s.point)
		steps = append(steps, s)
		p.Add(a.name, stepName(a, n), func(ctx context.Context) error { return b.begin(ctx, s) })
	}
	for round := range b.o.Rounds {
		for i := range steps {
			s := steps[(i+round)%len(steps)]
			for _, load := range a.loads(s.items) {
				what := fmt.Sprintf("%s, round %d of %d", a.name, round+1, b.o.Rounds)
				p.Add(what, stepName(a, s.items)+": "+load.Name, func(ctx context.Context) error {
					return b.slice(ctx, s, load)
				})
			}
		}
	}
	if a.start {
		p.Add(a.name+", reloads", stepName(a, numbers[len(numbers)-1]), func(ctx context.Context) error {
			return b.reloads(ctx, steps[len(steps)-1])
		})
	}
	p.Add(a.name+", end", "", func(context.Context) error { b.end(steps); return nil })
}

// begin starts the gateway of a step and has as many there as the step says. What goes wrong is told in the point.
func (b *bench) begin(ctx context.Context, s *step) error {
	if s.axis.servers && b.upstreams == nil {
		s.point.Failed = "not available: nginx is not installed"
		return nil
	}
	if err := b.prepare(ctx, s); err != nil {
		s.point.Failed = measure.OneLine(err)
	}
	return ctx.Err()
}

func (b *bench) prepare(ctx context.Context, s *step) error {
	values := map[string]any{}
	if s.axis.settings != nil {
		values = s.axis.settings(s.items, b.addresses)
	}
	s.Run = measure.NewRun(measure.Contender{
		Name: stepName(s.axis, s.items), File: "sluice.yaml", Templates: configurations, Settings: values, Agreed: true,
	})
	if s.axis.hold == busy {
		s.Connections = s.items
	}
	var starts []float64
	for range min(b.o.Rounds, 3) { // the last one stays
		if s.Process != nil {
			s.Process.Shutdown()
		}
		if err := b.Start(ctx, s.Run); err != nil {
			return err
		}
		cpu, err := measure.CPUTime(s.Process.PID())
		if err != nil {
			return err
		}
		starts = append(starts, float64(cpu.Microseconds())/1e3)
	}
	b.Runs = append(b.Runs, s.Run)
	s.point.StartMillis = measure.Median(starts)
	load := s.axis.loads(s.items)[0]
	if err := b.Hold(ctx, s.Run, load, 100, func() error { return nil }); err != nil { // pools are there
		return err
	}
	before, err := ownMemory(ctx, s.Process)
	if err != nil {
		return err
	}
	s.point.MemoryBytes = float64(before)
	after := func() error {
		now, err := ownMemory(ctx, s.Process)
		s.point.MemoryBytes, s.point.MoreBytes = float64(now), float64(now-before)
		return err
	}
	switch s.axis.hold {
	case asked:
		if err := b.fill(ctx, s, load); err != nil {
			return err
		}
		return after()
	case idle, busy:
		return b.Hold(ctx, s.Run, load, s.items, after)
	default:
		return nil
	}
}

// ownMemory returns a process' memory that is no file's, once it rests, in bytes: pages of the program are shared by
// all steps, and the first one would have them alone.
func ownMemory(ctx context.Context, p *measure.Process) (int64, error) {
	if _, err := measure.QuietMemory(ctx, p.PID()); err != nil {
		return 0, err
	}
	kilobytes, err := measure.MappedMemory(p.PID(), "Anonymous:")
	return kilobytes << 10, err
}

// fill sends the load until it has gone around once.
func (b *bench) fill(ctx context.Context, s *step, load measure.Load) error {
	d, err := b.NewDriver(s.Run, load)
	if err != nil {
		return err
	}
	defer d.Close()
	for done := int64(0); done < int64(s.items); {
		t, err := d.Closed(ctx, b.o.Duration/4)
		switch {
		case err != nil:
			return err
		case t.Errors > 0 || t.Requests == 0:
			return fmt.Errorf("%d errors in %d requests, first: %s", t.Errors, t.Requests, t.First)
		}
		done += t.Requests
	}
	return nil
}

// slice drives one load against one step.
func (b *bench) slice(ctx context.Context, s *step, load measure.Load) error {
	if s.point.Failed != "" {
		return nil
	}
	drive := func() error { return b.Slice(ctx, s.Run, load) }
	if s.axis.hold != idle {
		return drive()
	}
	err := b.Hold(ctx, s.Run, load, s.items, drive)
	if err != nil && ctx.Err() == nil {
		s.point.Failed = measure.OneLine(err)
		return nil
	}
	return err
}

// end stops the gateways of an axis and keeps their figures.
func (b *bench) end(steps []*step) {
	for _, s := range steps {
		if s.Run == nil {
			continue
		}
		if s.Process != nil {
			s.Process.Shutdown()
			s.Process = nil
		}
		s.Settle()
		for _, load := range s.axis.loads(s.items) {
			if f := s.Result.Figures[load]; f != nil {
				s.point.Loads = append(s.point.Loads, LoadResult{Name: load.Name, Figure: f})
			}
		}
	}
	b.Runs = nil
}

// reloads measures reloads of a step, each beside as many requests as without one.
func (b *bench) reloads(ctx context.Context, s *step) error {
	if s.point.Failed != "" {
		return nil
	}
	r := &Reload{}
	for round := range min(b.o.Rounds, reloadRounds) {
		if err := b.reload(ctx, s, round, r); err != nil {
			r.Failed = measure.OneLine(err)
			break
		}
	}
	s.point.Reload = r
	return ctx.Err()
}

func (b *bench) reload(ctx context.Context, s *step, round int, r *Reload) error {
	load := s.axis.loads(s.items)[0]
	meanwhileFor := reloadFor
	if b.o.Quick {
		meanwhileFor = quickFor
	}
	quiet, err := b.Open(ctx, s.Run, load, reloadRate, meanwhileFor)
	if err != nil {
		return err
	}
	var took time.Duration
	reloaded := make(chan error, 1)
	go func() {
		var err error
		took, err = addRoute(ctx, s.Process, fmt.Sprintf("reloaded-%d", round))
		reloaded <- err
	}()
	meanwhile, err := b.Open(ctx, s.Run, load, reloadRate, meanwhileFor)
	if err := errors.Join(err, <-reloaded); err != nil {
		return err
	}
	if n := quiet.Errors + meanwhile.Errors; n > 0 {
		return fmt.Errorf("%d requests failed, first: %s%s", n, quiet.First, meanwhile.First)
	}
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	r.TookMillis = append(r.TookMillis, millis(took))
	r.SlowestMillis = append(r.SlowestMillis, millis(slices.Max(meanwhile.Latencies)))
	r.QuietMillis = append(r.QuietMillis, millis(slices.Max(quiet.Latencies)))
	return nil
}

// addRoute adds a route to a gateway's file and returns how long it took until the route answers.
func addRoute(ctx context.Context, p *measure.Process, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	file := filepath.Join(p.Site.Dir, "sluice.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	text = fmt.Appendf(text, "  - {name: %s, match: {path: /%s}, service: up}\n", name, name)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := os.Rename(file+".new", file); err != nil {
		return 0, err
	}
	p.Signal(syscall.SIGHUP)
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	for {
		there, err := answers(ctx, "http://"+p.Site.Listen+"/"+name)
		if err != nil || there {
			return time.Since(began), err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("growth: the reload had no effect within %v", reloadLimit)
		case <-every.C:
		}
	}
}

func answers(ctx context.Context, url string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}

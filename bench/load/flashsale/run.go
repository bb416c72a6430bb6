package flashsale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
	"github.com/sluice-gateway/sluice/bench/load/flashsale/peer"
	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// Finding is what one contender did.
type Finding struct {
	Name     string         `json:"name"`
	Missing  string         `json:"missing,omitempty"` // why it was not run
	Failed   string         `json:"failed,omitempty"`  // why it was given up
	Notes    []string       `json:"notes,omitempty"`
	Figures  *Figures       `json:"figures,omitempty"`
	Audit    *Audit         `json:"audit,omitempty"`
	Faults   []FaultFigures `json:"faults,omitempty"`
	Leaks    []Leak         `json:"leaks,omitempty"`
	Attempts float64        `json:"attemptsOverAdmitted"` // requests at the services, by success of a client
	Marks    []measure.Mark `json:"marks"`
	possible []float64      // by second: what could be served of what came
}

// Report is what one run found.
type Report struct {
	At       time.Time      `json:"at"`
	Scenario string         `json:"scenario"`
	Title    string         `json:"title"`
	Short    bool           `json:"short"`
	Seed     uint64         `json:"seed"`
	Capacity string         `json:"capacity"` // of a service
	Gateways int            `json:"gateways"`
	Store    string         `json:"store"`
	Mix      Mix            `json:"load"`
	Findings []*Finding     `json:"findings"`
	Marks    []measure.Mark `json:"marks"`
	plan     []planned
}

// bench is one run of the command. It is for one goroutine.
type bench struct {
	o        Options
	dir      string
	progress *progress
	report   *Report
}

// Run carries out the scenario that the options name. The error says that something could not be
// run at all; a missed bar is none.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	b := &bench{o: o, progress: newProgress(o.Progress, o.Terminal), dir: o.Dir}
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "sluice-flash-sale-")
		if err != nil {
			return nil, fmt.Errorf("flashsale: %w", err)
		}
		defer os.RemoveAll(dir)
		b.dir = dir
	}
	defer b.progress.end()
	b.report = &Report{At: time.Now().UTC(), Scenario: o.Scenario, Short: o.Short, Seed: o.Seed,
		Capacity: o.Capacity.String(), Gateways: o.Gateways, Store: o.Store}
	var err error
	switch {
	case len(o.Targets) > 0:
		err = b.runTarget(ctx)
	case o.Scenario == scenarioSale:
		err = b.runSale(ctx)
	default:
		err = b.runScenario(ctx)
	}
	return b.report, err
}

// Met tells whether no bar was missed.
func (r *Report) Met() bool {
	for _, m := range r.Marks {
		if !m.Met {
			return false
		}
	}
	return true
}

// runTarget offers the load to addresses of others.
func (b *bench) runTarget(ctx context.Context) error {
	b.report.Title = "load on " + strings.Join(b.o.Targets, ", ")
	b.report.Mix = saleMix(b.o.Seed, b.o.Capacity.PerSecond(), b.o.Half, b.o.Peak)
	if b.o.Profile != "" {
		var err error
		if b.report.Mix, err = readMix(b.o.Profile); err != nil {
			return err
		}
	}
	var addresses []string
	for _, target := range b.o.Targets {
		addresses = append(addresses, strings.Trim(strings.TrimPrefix(target, "http://"), "/"))
	}
	f := &Finding{Name: "target"}
	b.report.Findings = append(b.report.Findings, f)
	result, err := b.load(ctx, "target", b.report.Mix, addresses, nil)
	if err != nil {
		return err
	}
	p := b.report.Mix.profile()
	f.Figures = measured(&p, result)
	b.judgeTarget(f)
	return nil
}

// load carries out a mix. beside runs with it, until its context ends with the load.
func (b *bench) load(ctx context.Context, what string, m Mix, addresses []string,
	beside func(ctx context.Context, began time.Time)) (*openloop.Result, error) {
	p := m.profile()
	r, err := openloop.New(p, addresses)
	if err != nil {
		return nil, err
	}
	b.progress.say("%s: %v of load", what, p.Length().Round(time.Second))
	stop := make(chan struct{})
	var followers sync.WaitGroup
	followers.Go(func() { b.progress.follow(r, p.Length(), stop) })
	during, cancel := context.WithCancel(ctx)
	began := time.Now()
	if beside != nil {
		followers.Go(func() { beside(during, began) })
	}
	result, err := r.Run(ctx)
	close(stop)
	if beside == nil || err != nil {
		cancel()
	}
	followers.Wait()
	cancel()
	return result, err
}

// world prepares what a contender needs; it is not started yet.
func (b *bench) world(c contender, capacity map[string]shop.Capacity) *world {
	dir := filepath.Join(b.dir, strings.NewReplacer(" ", "-", "+", "and", ",", "").Replace(c.Name))
	return &world{site: site{dir: dir}, o: &b.o, c: c, capacity: capacity}
}

// runSale runs the sale with the gateway, and with each control in its place.
func (b *bench) runSale(ctx context.Context) error {
	b.report.Title = fmt.Sprintf("a sale of %d units", b.o.units())
	b.report.Mix = saleMix(b.o.Seed, b.o.Capacity.PerSecond(), b.o.Half, b.o.Peak)
	plan, err := planFaults(b.o.Faults, &b.o)
	if err != nil {
		return err
	}
	b.report.plan = plan
	err = b.each(ctx, append([]string{ours}, b.o.Controls...), func(f *Finding, c contender) error {
		if c.Name != ours {
			return b.sale(ctx, f, c, nil)
		}
		return b.sale(ctx, f, c, plan)
	})
	if err != nil {
		return err
	}
	b.judgeSale()
	return nil
}

// each runs the contenders of these names, one after the other. What ends the gateway's own run is
// returned, what ends another's is noted with its finding.
func (b *bench) each(ctx context.Context, names []string, run func(f *Finding, c contender) error) error {
	for _, name := range names {
		c, known := contenderNamed(name)
		if !known {
			return fmt.Errorf("flashsale: there is no contender %q", name)
		}
		f := &Finding{Name: name}
		b.report.Findings = append(b.report.Findings, f)
		err := run(f, c)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isNotInstalled(err):
			f.Missing = err.Error()
		case err != nil && name == ours:
			return err
		case err != nil:
			f.Failed = measure.OneLine(err)
		}
	}
	return nil
}

const (
	warmFor     = 3 * time.Second
	coolForLoad = 2 * time.Second
)

// sale runs the sale with one contender.
func (b *bench) sale(ctx context.Context, f *Finding, c contender, plan []planned) error {
	b.progress.say("%s: starting", c.Name)
	w := b.world(c, map[string]shop.Capacity{"order": b.o.Capacity, "stock": b.o.Capacity, "payment": b.o.Capacity})
	w.opens = time.Now().Add(time.Hour)
	defer w.stop()
	if err := w.start(ctx); err != nil {
		return err
	}
	mix := b.report.Mix
	if !c.Transactions {
		mix = mix.withoutTransactions()
	}
	warm := mix
	warm.Seed += 1 << 32
	warm.Phases = []Stretch{{"warm", warmFor.Seconds(), warm.Phases[0].Rate}}
	before, err := b.load(ctx, c.Name+", warm", warm, w.targets, nil)
	if err != nil {
		return err
	}
	if _, err := w.settle(ctx); err != nil {
		return err
	}
	start, err := w.holdings(ctx)
	if err != nil {
		return err
	}
	// The sale opens when the load goes up to ten times.
	w.opens = time.Now().Add(coolForLoad + b.o.Half)
	if len(w.gateways) > 0 {
		if err := restoreConfig(ctx, w); err != nil {
			return err
		}
	}
	sleepUntil(ctx, w.opens.Add(-b.o.Half))
	result, err := b.load(ctx, c.Name, mix, w.targets, func(ctx context.Context, began time.Time) {
		f.Faults = w.inject(ctx, plan, began)
	})
	if err != nil {
		return err
	}
	b.progress.say("%s: waiting until nothing is under way", c.Name)
	open, err := w.settle(ctx)
	if err != nil {
		return err
	}
	b.progress.say("%s: audit", c.Name)
	if f.Audit, err = w.audit(ctx, &mix, append(before.Bought, result.Bought...)); err != nil {
		return err
	}
	f.Audit.Unfinished = open
	p := mix.profile()
	f.Figures = measured(&p, result)
	recoveries(f.Faults, result.Samples, p.Length())
	f.Attempts = attempts(f, before, result)
	if c.Name != ours {
		return nil
	}
	b.progress.say("%s: cooling down", c.Name)
	f.Leaks, err = w.cooled(ctx, start, b.coolLimit())
	return err
}

func (b *bench) coolLimit() time.Duration {
	if b.o.Short {
		return coolLimit / 30 // leaks have no bar there
	}
	return coolLimit
}

// attempts is how many requests the services had for each success of a client.
func attempts(f *Finding, results ...*openloop.Result) float64 {
	good := 0.0
	for _, r := range results {
		for _, s := range r.Samples {
			if s.Outcome == openloop.Succeeded {
				good++
			}
		}
	}
	return float64(f.Audit.Arrived) / max(good, 1)
}

// Parts of this program that stand in the gateway's place.
const (
	PartFailsafe            = "failsafe"
	PartFailsafePrioritized = "failsafe-prioritized"
)

// IsPart tells whether a name is that of a part.
func IsPart(name string) bool { return name == PartFailsafe || name == PartFailsafePrioritized }

// RunPart runs a part until ctx ends: its name, its address, those of the order and the stock
// service, and how long it waits for them.
func RunPart(ctx context.Context, args []string) error {
	if len(args) != 5 || !IsPart(args[0]) {
		return errors.New("flashsale: want NAME ADDRESS ORDER STOCK TIMEOUT")
	}
	timeout, err := time.ParseDuration(args[4])
	if err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	return peer.Run(ctx, peer.Options{Listen: args[1], Order: args[2], Stock: args[3], Timeout: timeout,
		Prioritized: args[0] == PartFailsafePrioritized})
}

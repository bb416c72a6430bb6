package flashsale

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// scenario is a load before one service whose capacity changes, or scenario b.
type scenario struct {
	key, title string
	mix        Mix
	capacity   func(at time.Duration) shop.Capacity // of the service, since the beginning
	others     []string                             // contenders beside the gateway
	judge      func(f *Finding)
}

// runScenario runs it with every contender, one after the other.
func (b *bench) runScenario(ctx context.Context) error {
	var s scenario
	switch b.o.Scenario {
	case scenarioA:
		s = b.burst()
	case scenarioB:
		return b.runSteps(ctx)
	case scenarioC:
		s = b.drop()
	default:
		s = b.creep()
	}
	b.report.Title, b.report.Mix = s.title, s.mix
	err := b.each(ctx, b.contenders(s.others), func(f *Finding, c contender) error {
		err := b.scenario(ctx, f, c, &s)
		if err == nil {
			f.judgeGenerator()
			s.judge(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	b.takeMarks()
	return nil
}

// ScenarioControls are those of the scenarios a, c and d; b has the first only.
var ScenarioControls = []string{noShedding, nginxLimit, envoyLimit, failsafe, failsafePrio}

// contenders are the gateway, and those of the others that are wanted.
func (b *bench) contenders(others []string) []string {
	all := []string{ours}
	for _, name := range others {
		if slices.Contains(b.o.Controls, name) {
			all = append(all, name)
		}
	}
	return all
}

// scale shortens a phase in the short form.
func (b *bench) scale(seconds float64) float64 {
	if b.o.Short {
		return max(4, math.Round(seconds/3))
	}
	return seconds
}

// rates are phases by the share of the capacity.
func (b *bench) phases(all ...Stretch) []Stretch {
	for i := range all {
		all[i].Seconds = b.scale(all[i].Seconds)
		all[i].Rate *= b.o.Capacity.PerSecond()
	}
	return all
}

// burst is scenario a.
func (b *bench) burst() scenario {
	return scenario{
		key: scenarioA, title: "ten times the capacity",
		mix: plainMix(b.o.Seed, b.phases(Stretch{"0.5 C", 10, 0.5}, Stretch{"10 C", 30, 10},
			Stretch{"0.5 C again", 15, 0.5})...),
		capacity: func(time.Duration) shop.Capacity { return b.o.Capacity },
		others:   ScenarioControls,
		judge: func(f *Finding) {
			before, during, after := f.Figures.Phases[0], f.Figures.Phases[1], f.Figures.Phases[2]
			f.least("goodput at 10 C", during.Goodput/b.o.Capacity.PerSecond(), 0.98, " C")
			f.critical()
			f.most("p99 of admitted at 10 C", during.Admitted.P99, 92, " ms")
			f.most("p99 until shed", during.Shed.P99, 5, " ms")
			f.most("shed at 0.5 C, before and after", 100*max(before.ShedShare, after.ShedShare), 0, " %")
		},
	}
}

// critical is the bar of the class that is shed last.
func (f *Finding) critical() {
	if c := f.Figures.class(classes[0]); c != nil {
		f.least("critical requests served", 100*c.Served, criticalLeast, " %")
	}
}

// drop is scenario c: the service loses two thirds of what it can do, and clients retry.
func (b *bench) drop() scenario {
	m := plainMix(b.o.Seed, b.phases(Stretch{"C", 10, 0.9}, Stretch{"C / 3", 15, 0.9},
		Stretch{"C again", 15, 0.9})...)
	m.Retrying, m.Retries, m.Ignoring = 1, 2, 0.5
	from, to := seconds(m.Phases[0].Seconds), seconds(m.Phases[0].Seconds+m.Phases[1].Seconds)
	return scenario{
		key: scenarioC, title: "capacity ÷ 3, clients retry twice", mix: m, others: ScenarioControls,
		capacity: func(at time.Duration) shop.Capacity {
			c := b.o.Capacity
			if at >= from && at < to {
				c.Latency *= 3
			}
			return c
		},
		judge: func(f *Finding) {
			f.least("goodput at C / 3, after 2 s", f.share(from+2*time.Second, to), 0.97, " of what is left")
			f.critical()
			f.most("until goodput is back", f.backAfter(to), 1, " s")
			f.least("goodput after", f.share(to+time.Second, seconds(m.Phases[0].Seconds+m.Phases[1].Seconds+
				m.Phases[2].Seconds)), 0.97, " of what is possible")
			f.most("requests at the service for a success", f.Attempts, attemptsMost, "")
		},
	}
}

// creep is scenario d: the service gets slower, second by second, until it does half.
func (b *bench) creep() scenario {
	m := plainMix(b.o.Seed, b.phases(Stretch{"C", 10, 0.9}, Stretch{"creeping", 30, 0.9}, Stretch{"C / 2", 15, 0.9})...)
	from, to := seconds(m.Phases[0].Seconds), seconds(m.Phases[0].Seconds+m.Phases[1].Seconds)
	end := to + seconds(m.Phases[2].Seconds)
	return scenario{
		key: scenarioD, title: "capacity creeps to a half", mix: m, others: ScenarioControls,
		capacity: func(at time.Duration) shop.Capacity {
			c := b.o.Capacity
			gone := min(1, max(0, float64(at-from)/float64(to-from)))
			c.Latency = time.Duration(float64(c.Latency) / (1 - gone/2)).Round(10 * time.Microsecond)
			return c
		},
		judge: func(f *Finding) {
			f.least("goodput while capacity creeps and after", f.share(from, end), 0.97, " of what is possible")
			f.least("worst second", f.worst(from, end), 0.85, " of what is possible")
			f.critical()
		},
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// scenario runs it with one contender.
func (b *bench) scenario(ctx context.Context, f *Finding, c contender, s *scenario) error {
	b.progress.say("%s: starting", c.Name)
	w := b.world(c, map[string]shop.Capacity{"stock": s.capacity(0)})
	w.plain = true
	defer w.stop()
	if err := w.start(ctx); err != nil {
		return err
	}
	result, err := b.load(ctx, "scenario "+s.key+", "+c.Name, s.mix, w.targets,
		func(ctx context.Context, began time.Time) { f.note(w.follow(ctx, s, began)) })
	if err != nil {
		return err
	}
	p := s.mix.profile()
	f.Figures = measured(&p, result)
	f.possible = possible(f.Figures, s.capacity)
	var stats shop.Stats
	if err := getJSON(ctx, "http://"+w.services["stock"]+"/stats?keys=false", &stats); err != nil {
		return err
	}
	f.Audit = new(Audit)
	for _, n := range stats.Requests {
		f.Audit.Arrived += n
	}
	f.Attempts = attempts(f, result)
	return nil
}

// note keeps what went wrong beside a load.
func (f *Finding) note(err error) {
	if err != nil {
		f.Notes = append(f.Notes, measure.OneLine(err))
	}
}

const followEvery = 500 * time.Millisecond

// follow changes the capacity of the service as the scenario says.
func (w *world) follow(ctx context.Context, s *scenario, began time.Time) error {
	p := s.mix.profile()
	last := s.capacity(0)
	for at := time.Duration(0); at < p.Length(); at += followEvery {
		if !sleepUntil(ctx, began.Add(at)) {
			return nil
		}
		if c := s.capacity(at); c != last {
			if err := w.setCapacity(ctx, "stock", c); err != nil {
				return fmt.Errorf("the capacity at %v: %w", at, err)
			}
			last = c
		}
	}
	return nil
}

// possible is what could be served in each second: what came, or what the service can do.
func possible(f *Figures, capacity func(time.Duration) shop.Capacity) []float64 {
	all := make([]float64, len(f.Series.Offered))
	for i, offered := range f.Series.Offered {
		const steps = 4
		can := 0.0
		for j := range steps {
			can += capacity(time.Duration(i)*time.Second+time.Duration(j)*time.Second/steps).PerSecond() / steps
		}
		all[i] = min(offered, can)
	}
	return all
}

// share is the goodput of a time, of what was possible.
func (f *Finding) share(from, to time.Duration) float64 {
	good, can := 0.0, 0.0
	for i := int(from.Seconds()); i < int(to.Seconds()) && i < len(f.possible); i++ {
		good += f.Figures.Series.Goodput[i]
		can += f.possible[i]
	}
	return good / max(can, 1)
}

// worst is the least share of a second. What is possible is a mean: a second of a random load and
// a random service has up to some per cent more or less.
func (f *Finding) worst(from, to time.Duration) float64 {
	least := 1.0
	for i := int(from.Seconds()); i < int(to.Seconds()) && i < len(f.possible); i++ {
		least = min(least, f.Figures.Series.Goodput[i]/max(f.possible[i], 1))
	}
	return least
}

const backShare = 0.9

// backAfter is how many seconds after a moment goodput is near what is possible again.
func (f *Finding) backAfter(from time.Duration) float64 {
	first := int(from.Seconds())
	for i := first; i < len(f.possible); i++ {
		if f.Figures.Series.Goodput[i] >= backShare*f.possible[i] {
			return float64(i - first)
		}
	}
	return float64(len(f.possible) - first)
}

// Scenario b: two transactions share services, at a tenth of the rates.
const (
	stepsStock = 30.0 // a second; order has as much
	stepsPay   = 6.0
)

// runSteps is scenario b: what the door of a transaction is for.
func (b *bench) runSteps(ctx context.Context) error {
	capacities := map[string]shop.Capacity{
		"stock": ofRate(stepsStock), "order": ofRate(stepsStock), "payment": ofRate(stepsPay),
	}
	kind := func(name, class, path string, share float64) Kind {
		return Kind{Name: name, Class: class, Method: "POST", Path: path, Share: share, TimeoutMs: 4000, Keyed: true,
			Body: `{"user":"{user}","sku":"{item}","qty":1,"amount":500}`, Buys: true}
	}
	b.report.Title = "two transactions over shared services, each offered ten times"
	b.report.Mix = Mix{Seed: b.o.Seed, Hot: otherItem(0), HotShare: 1, Kinds: []Kind{
		kind("draft", "normal", "/v1/drafts", 0.5), kind("checkout", "critical", "/v1/checkouts", 0.5)},
		Phases: []Stretch{{"before", b.scale(10), 8}, {"10 C", b.scale(30), 2 * 10 * stepsStock},
			{"after", b.scale(15), 8}}}
	err := b.each(ctx, b.contenders([]string{noShedding}), func(f *Finding, c contender) error {
		return b.steps(ctx, f, c, capacities)
	})
	if err != nil {
		return err
	}
	b.takeMarks()
	return nil
}

// ofRate is a service that does so many requests a second.
func ofRate(rate float64) shop.Capacity {
	const workers = 2
	return shop.Capacity{Workers: workers, Latency: time.Duration(workers / rate * float64(time.Second)).Round(
		time.Microsecond)}
}

func (b *bench) steps(ctx context.Context, f *Finding, c contender, capacities map[string]shop.Capacity) error {
	b.progress.say("%s: starting", c.Name)
	w := b.world(c, capacities)
	w.draft = true
	defer w.stop()
	if err := w.start(ctx); err != nil {
		return err
	}
	result, err := b.load(ctx, "scenario b, "+c.Name, b.report.Mix, w.targets, nil)
	if err != nil {
		return err
	}
	b.progress.say("%s: waiting until nothing is under way", c.Name)
	open, err := w.settle(ctx)
	if err != nil {
		return err
	}
	if f.Audit, err = w.audit(ctx, &b.report.Mix, result.Bought); err != nil {
		return err
	}
	f.Audit.Unfinished = open
	p := b.report.Mix.profile()
	f.Figures = measured(&p, result)
	f.Attempts = attempts(f, result)
	var orders shop.Ledger
	if err := getJSON(ctx, "http://"+w.services["order"]+"/ledger", &orders); err != nil {
		return err
	}
	during := f.Figures.Phases[1]
	done, undone := finished(orders.Entries, result.Began.Add(seconds(during.From)),
		result.Began.Add(seconds(during.To)))
	f.least("orders that stand, of those made at 10 C", done/(during.To-during.From), 0.95*stepsStock, "/s")
	f.most("orders taken back, of those made at 10 C", undone/(during.To-during.From), 0, "/s")
	f.most("transactions unfinished", float64(open), 0, "")
	f.most("ids of which the services disagree", float64(f.Audit.Unbalanced), 0, "")
	return nil
}

// finished counts the orders that were made within a time: those that stand in the end, and those
// that were taken back.
func finished(entries []shop.Entry, from, to time.Time) (stand, undone float64) {
	within := map[string]bool{}
	for _, e := range entries {
		switch {
		case e.Kind == "ordered" && !e.At.Before(from) && e.At.Before(to):
			within[e.ID] = true
			stand++
		case e.Kind == "cancelled" && within[e.ID]:
			stand--
			undone++
		}
	}
	return stand, undone
}

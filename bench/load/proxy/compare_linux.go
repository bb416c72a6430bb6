package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// subject is one contender of which both builds are driven.
type subject struct {
	contender
	idle  *Pair            // memory an idle connection; nil: not asked for
	pairs map[string]*Pair // by load
	runs  [2]*run          // this build and the other one, in the round under way
}

// builds is a run of two builds with the same configurations, the same upstream and the same load. In each round every gateway is a fresh
// process, so that what differs from one process to the next of the same build (addresses, the shape of the heap) is within
// the interval and does not pass for a difference of the builds. Which build is driven first alternates from round to round, so that a machine that
// becomes slower or faster over the run does so for both.
type builds struct {
	b        *bench
	programs [2]string // this, the other
	subjects []*subject
	start    func(context.Context, *run) error
	slice    func(context.Context, *run, string) error
	rounds   int
	idle     func(context.Context, *process) (float64, error)
}

// add takes a contender up with those of its parts that are asked for.
func (d *builds) add(c contender, only func(part string) bool, idle bool) {
	s := &subject{contender: c, pairs: map[string]*Pair{}}
	s.loads = nil
	for _, load := range c.loads {
		if only(load) {
			s.loads = append(s.loads, load)
			s.pairs[load] = &Pair{What: c.name + ": " + load, Unit: "µs"}
		}
	}
	if idle && only(idlePart) {
		s.idle = &Pair{What: c.name + ": " + idlePart, Unit: "KiB"}
	}
	if len(s.loads) > 0 || s.idle != nil {
		d.subjects = append(d.subjects, s)
	}
}

// measure drives all rounds. A build that does not start ends the run.
func (d *builds) measure(ctx context.Context) error {
	var p plan
	for round := range d.rounds {
		what := fmt.Sprintf("round %d of %d", round+1, d.rounds)
		order := [2]int{round % 2, 1 - round%2}
		for _, s := range d.subjects {
			p.add(what, s.name+", start", func(ctx context.Context) error { return d.startBoth(ctx, s, order) })
			if s.idle != nil {
				p.add(what, s.idle.What, func(ctx context.Context) error { return d.idleBoth(ctx, s, order) })
			}
			for _, load := range s.loads {
				p.add(what, s.pairs[load].What, func(ctx context.Context) error { return d.sliceBoth(ctx, s, load, order) })
			}
			p.add(what, s.name+", stop", func(context.Context) error { d.stopBoth(); return nil })
		}
	}
	return p.carryOut(ctx, d.b.progress)
}

func (d *builds) startBoth(ctx context.Context, s *subject, order [2]int) error {
	for _, i := range order {
		r := newRun(s.contender)
		r.build = d.programs[i]
		s.runs[i] = r
		d.b.runs = append(d.b.runs, r)
		if err := d.start(ctx, r); err != nil {
			return fmt.Errorf("proxy: %s, %s: %w", d.programs[i], s.name, err)
		}
	}
	return nil
}

func (d *builds) stopBoth() {
	d.b.stopRuns()
	d.b.runs = nil
}

// buildNames are for messages, in the order of programs.
var buildNames = [2]string{"this build", "the other build"}

func (d *builds) idleBoth(ctx context.Context, s *subject, order [2]int) error {
	var kib [2]float64
	for _, i := range order {
		n, err := d.idle(ctx, s.runs[i].process)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.idle.fail("%s: %v", buildNames[i], err)
			return nil
		}
		kib[i] = n / 1024
	}
	s.idle.This, s.idle.Other = append(s.idle.This, kib[0]), append(s.idle.Other, kib[1])
	return nil
}

// sliceBoth drives one load against both builds, one after the other. What goes wrong with one of them makes the figure void.
func (d *builds) sliceBoth(ctx context.Context, s *subject, load string, order [2]int) error {
	p := s.pairs[load]
	if p.Failed != "" {
		return nil
	}
	var got [2]sample
	for _, i := range order {
		r := s.runs[i]
		if err := d.slice(ctx, r, load); err != nil {
			return err
		}
		f := r.figure(load)
		p.Errors += f.Errors
		switch {
		case f.Failed != "":
			p.fail("%s: %s", buildNames[i], f.Failed)
		case f.Errors > 0:
			p.fail("%s: %d errors in %d requests, first: %s", buildNames[i], f.Errors, f.Requests, f.FirstError)
		}
		if p.Failed != "" {
			return nil
		}
		got[i] = r.samples[load][len(r.samples[load])-1]
	}
	p.This, p.Other = append(p.This, got[0].cpuMicros), append(p.Other, got[1].cpuMicros)
	p.ThisMallocs, p.OtherMallocs = append(p.ThisMallocs, got[0].mallocs), append(p.OtherMallocs, got[1].mallocs)
	return nil
}

// comparison settles what was measured.
func (d *builds) comparison(ctx context.Context, command string) (*Comparison, error) {
	c := &Comparison{
		Command: command, At: time.Now().UTC(), Processors: d.b.processors.all.Count(), Apart: d.b.processors.apart(),
		Upstream: d.b.upstream.program, Duration: d.b.o.Duration, Rounds: d.rounds,
	}
	var err error
	if c.This, err = buildOf(ctx, d.programs[0]); err != nil {
		return nil, err
	}
	if c.Other, err = buildOf(ctx, d.programs[1]); err != nil {
		return nil, err
	}
	for _, s := range d.subjects {
		if s.idle != nil {
			c.Figures = append(c.Figures, s.idle)
		}
		for _, load := range s.loads {
			c.Figures = append(c.Figures, s.pairs[load])
		}
	}
	for _, p := range c.Figures {
		p.settle()
	}
	return c, nil
}

// buildOf returns what tells one build from another.
func buildOf(ctx context.Context, path string) (Build, error) {
	b := Build{Path: path}
	f, err := os.Open(path)
	if err != nil {
		return b, fmt.Errorf("proxy: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return b, fmt.Errorf("proxy: %w", err)
	}
	b.SHA256 = hex.EncodeToString(h.Sum(nil))
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return b, fmt.Errorf("proxy: %s version: %w", path, err)
	}
	b.Version = strings.TrimSpace(string(out))
	return b, nil
}

// Compare measures this program and another build of it, o.Against, interleaved. An error is returned when a build did not start, or
// ctx ended; what else could not be measured is in the figures, see [Comparison.Err].
func Compare(ctx context.Context, o Options) (*Comparison, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &bench{o: o}
	d := &builds{b: b, programs: [2]string{o.Program, o.Against}, rounds: o.Rounds, start: b.startContender, slice: b.slice, idle: b.idleBytes}
	for _, c := range contenders() {
		if c.isGateway() {
			d.add(c, func(part string) bool { return c.asked(o.Only, part) }, c.name == gateway)
		}
	}
	if len(d.subjects) == 0 {
		return nil, fmt.Errorf("proxy: --only %q matches no figure of the gateway", o.Only)
	}
	var found *Comparison
	err := b.within("", func() error {
		direct := slices.ContainsFunc(d.subjects, func(s *subject) bool { return s.direct })
		if err := b.startUpstreams(ctx, direct); err != nil {
			return err
		}
		if err := d.agree(); err != nil {
			return err
		}
		if err := d.measure(ctx); err != nil {
			return err
		}
		var err error
		found, err = d.comparison(ctx, "sluice bench proxy")
		return err
	})
	return found, err
}

// agree leaves out of the configurations what one of the builds does not have yet, for both of them.
func (d *builds) agree() error {
	for _, s := range d.subjects {
		for _, program := range d.programs {
			site, err := d.b.newSite(d.b.upstream.site.listen)
			if err != nil {
				return err
			}
			_, note, err := s.configureGateway(program, site)
			if err != nil {
				return fmt.Errorf("proxy: %s, %s: %w", program, s.name, err)
			}
			s.bare = s.bare || note != ""
		}
		s.agreed = true
	}
	return nil
}

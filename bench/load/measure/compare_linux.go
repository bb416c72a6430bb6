package measure

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Builds is a run of two builds, [Options].Program and [Options].Against, with the same
// configurations, the same upstream and the same load. In each round every gateway is a fresh
// process, so that what differs from one process to the next of the same build (addresses, the
// shape of the heap) is within the interval and does not pass for a difference of the builds. Which
// build is driven first alternates from round to round, so that a machine that becomes slower or
// faster over the run does so for both. It is for one goroutine.
type Builds struct {
	Command string // for the report
	Bench   *Bench
	Start   func(context.Context, *Run) error
	Slice   func(context.Context, *Run, Load) error

	subjects []*subject
}

const micros = "µs"

// subject is one contender of which both builds are driven.
type subject struct {
	Contender
	idle  *Pair          // memory an idle connection; nil: not asked for
	pairs map[Load]*Pair // of Loads
	runs  [2]*Run        // this build and the other one, in the round under way
}

// Add takes a contender up with those of its parts that are asked for, what an idle connection
// costs among them where idle is set. It reports whether there is one.
func (d *Builds) Add(c Contender, idle bool) bool {
	s := &subject{Contender: c, pairs: map[Load]*Pair{}}
	s.Loads = nil
	for _, load := range c.Loads {
		if c.asked(d.Bench.Options.Only, load.Name) {
			s.Loads = append(s.Loads, load)
			s.pairs[load] = &Pair{What: c.Name + ": " + load.Name, Unit: micros}
		}
	}
	if idle && c.asked(d.Bench.Options.Only, idlePart) {
		s.idle = &Pair{What: c.Name + ": " + idlePart, Unit: "KiB"}
	}
	if len(s.Loads) == 0 && s.idle == nil {
		return false
	}
	d.subjects = append(d.subjects, s)
	return true
}

// programs returns this build and the other one.
func (d *Builds) programs() [2]string {
	return [2]string{d.Bench.Options.Program, d.Bench.Options.Against}
}

// Compare drives all rounds. A build that does not start ends the run.
func (d *Builds) Compare(ctx context.Context) (*Comparison, error) {
	var p Plan
	rounds := d.Bench.Options.Rounds
	for round := range rounds {
		what := fmt.Sprintf("round %d of %d", round+1, rounds)
		order := [2]int{round % 2, 1 - round%2}
		for _, s := range d.subjects {
			p.Add(what, s.Name+", start", func(ctx context.Context) error { return d.startBoth(ctx, s, order) })
			if s.idle != nil {
				p.Add(what, s.idle.What, func(ctx context.Context) error { return d.idleBoth(ctx, s, order) })
			}
			for _, load := range s.Loads {
				p.Add(what, s.pairs[load].What, func(ctx context.Context) error {
					return d.sliceBoth(ctx, s, load,
						order)
				})
			}
			p.Add(what, s.Name+", stop", func(context.Context) error { d.stopBoth(); return nil })
		}
	}
	if err := d.Bench.CarryOut(ctx, p); err != nil {
		return nil, err
	}
	return d.comparison(ctx)
}

func (d *Builds) startBoth(ctx context.Context, s *subject, order [2]int) error {
	for _, i := range order {
		r := NewRun(s.Contender)
		r.Build = d.programs()[i]
		s.runs[i] = r
		d.Bench.Runs = append(d.Bench.Runs, r)
		if err := d.Start(ctx, r); err != nil {
			return fmt.Errorf("measure: %s, %s: %w", d.programs()[i], s.Name, err)
		}
	}
	return nil
}

func (d *Builds) stopBoth() {
	d.Bench.stopRuns()
	d.Bench.Runs = nil
}

// buildNames are for messages, in the order of programs.
var buildNames = [2]string{"this build", "the other build"}

func (d *Builds) idleBoth(ctx context.Context, s *subject, order [2]int) error {
	var kib [2]float64
	for _, i := range order {
		n, err := d.Bench.IdleBytes(ctx, s.runs[i].Process, s.IdleLoad())
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

// sliceBoth drives one load against both builds, one after the other. What goes wrong with one of
// them makes the figure void.
func (d *Builds) sliceBoth(ctx context.Context, s *subject, load Load, order [2]int) error {
	p := s.pairs[load]
	if p.Failed != "" {
		return nil
	}
	var got [2]sample
	for _, i := range order {
		r := s.runs[i]
		if err := d.Slice(ctx, r, load); err != nil {
			return err
		}
		f := r.Figure(load)
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
func (d *Builds) comparison(ctx context.Context) (c *Comparison, err error) {
	c = &Comparison{Command: d.Command, Setting: d.Bench.Setting()}
	if c.This, err = buildOf(ctx, d.Bench.Options.Program); err != nil {
		return nil, err
	}
	if c.Other, err = buildOf(ctx, d.Bench.Options.Against); err != nil {
		return nil, err
	}
	for _, s := range d.subjects {
		if s.idle != nil {
			c.Figures = append(c.Figures, s.idle)
		}
		for _, load := range s.Loads {
			c.Figures = append(c.Figures, s.pairs[load])
		}
	}
	for _, p := range c.Figures {
		p.busy = c.withholds() && p.Unit == micros
		p.settle()
	}
	return c, nil
}

// buildOf returns what tells one build from another.
func buildOf(ctx context.Context, path string) (Build, error) {
	b := Build{Path: path}
	f, err := os.Open(path)
	if err != nil {
		return b, fmt.Errorf("measure: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return b, fmt.Errorf("measure: %w", err)
	}
	b.SHA256 = hex.EncodeToString(h.Sum(nil))
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return b, fmt.Errorf("measure: %s version: %w", path, err)
	}
	b.Version = strings.TrimSpace(string(out))
	return b, nil
}

// Agree leaves out of the configurations what one of the builds does not have yet, for both of
// them.
func (d *Builds) Agree() error {
	for _, s := range d.subjects {
		for _, program := range d.programs() {
			site, err := d.Bench.NewSite(d.Bench.upstream.Site.Listen)
			if err != nil {
				return err
			}
			_, note, err := s.configureGateway(program, site)
			if err != nil {
				return fmt.Errorf("measure: %s, %s: %w", program, s.Name, err)
			}
			s.bare = s.bare || note != ""
		}
		s.Agreed = true
	}
	return nil
}

package proxy

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Run measures. A contender that is not installed or does not start is reported as missing; an
// error is returned when nothing could be measured at all, or ctx ended.
func Run(ctx context.Context, o measure.Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	some := measure.Chosen(contenders(), o.Only)
	if len(some) == 0 {
		return nil, fmt.Errorf("proxy: --only %q matches no contender", o.Only)
	}
	b := &measure.Bench{Options: o}
	err := b.Within("", func() error {
		if err := b.StartUpstreams(ctx, needHTTP2(some)); err != nil {
			return err
		}
		if err := b.StartAll(ctx, some, b.Start); err != nil {
			return err
		}
		return drive(ctx, b)
	})
	if err != nil {
		return nil, err
	}
	return newReport(b), nil
}

// needHTTP2 tells whether a contender leads to the upstream that speaks cleartext HTTP/2.
func needHTTP2(some []measure.Contender) bool {
	return slices.ContainsFunc(some, func(c measure.Contender) bool { return c.Direct })
}

// drive runs all phases, each interleaved over the contenders.
func drive(ctx context.Context, b *measure.Bench) error {
	present, err := b.Present()
	if err != nil {
		return err
	}
	var p measure.Plan
	for _, r := range present {
		if slices.Contains(r.Loads, r.IdleLoad()) {
			p.Add("idle connections", r.Name, func(ctx context.Context) error { return idle(ctx, b, r) })
		}
	}
	for _, load := range loads {
		for round := range b.Options.Rounds {
			what := fmt.Sprintf("%s, round %d of %d", load, round+1, b.Options.Rounds)
			for _, r := range measure.Rotated(present, round) {
				if slices.Contains(r.Loads, load) {
					p.Add(what, r.Name, func(ctx context.Context) error { return b.Slice(ctx, r, load) })
				}
			}
		}
	}
	for round := range b.Options.Rounds {
		what := fmt.Sprintf("latency, round %d of %d", round+1, b.Options.Rounds)
		for _, r := range measure.Rotated(present, round) {
			if slices.Contains(r.Loads, loadGet) {
				p.Add(what, r.Name, func(ctx context.Context) error { return b.OpenLoop(ctx, r, loadGet) })
			}
		}
	}
	return b.CarryOut(ctx, p)
}

// idle measures what an idle connection costs, on a contender that has done nothing else yet.
func idle(ctx context.Context, b *measure.Bench, r *measure.Run) error {
	n, err := b.IdleBytes(ctx, r.Process, r.IdleLoad())
	if err != nil {
		r.Result.IdleError = err.Error()
	} else {
		r.Result.IdleBytes = &n
	}
	return ctx.Err()
}

// newReport settles what was measured.
func newReport(b *measure.Bench) *Report {
	rep := &Report{Setting: b.Setting(), Connections: b.Options.Connections, Idle: b.Options.IdleConnections,
		Rate: b.Options.Rate}
	for _, r := range b.Runs {
		r.Settle()
		for load := range r.Result.Figures {
			if !slices.Contains(rep.Loads, load) {
				rep.Loads = append(rep.Loads, load)
			}
		}
		rep.Contenders = append(rep.Contenders, *r.Result)
	}
	slices.SortFunc(rep.Loads, func(a, b measure.Load) int { return slices.Index(loads, a) - slices.Index(loads, b) })
	rep.relate()
	rep.judge()
	return rep
}

// Compare measures the gateway of this program and that of another build of it, o.Against,
// interleaved. An error is returned when a build did not start, or ctx ended; what else could not
// be measured is in the figures, see [measure.Comparison.Err].
func Compare(ctx context.Context, o measure.Options) (*measure.Comparison, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	b := &measure.Bench{Options: o}
	builds := measure.Builds{Command: "sluice bench proxy", Bench: b, Start: b.Start, Slice: b.Slice}
	var some []measure.Contender
	for _, c := range contenders() {
		if c.IsGateway() && builds.Add(c, c.Name == gateway || c.Name == gatewayTLS) {
			some = append(some, c)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("proxy: --only %q matches no figure of the gateway", o.Only)
	}
	var found *measure.Comparison
	err := b.Within("", func() (err error) {
		if err := b.StartUpstreams(ctx, needHTTP2(some)); err != nil {
			return err
		}
		if err := builds.Agree(); err != nil {
			return err
		}
		found, err = builds.Compare(ctx)
		return err
	})
	return found, err
}

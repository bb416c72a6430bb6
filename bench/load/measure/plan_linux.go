package measure

import (
	"context"
	"io"
	"slices"
)

// Plan is what a run does, step by step.
type Plan []step

type step struct {
	what, whom string
	do         func(context.Context) error
}

// Add adds a step; what and whom are for the progress bar.
func (p *Plan) Add(what, whom string, do func(context.Context) error) {
	*p = append(*p, step{what, whom, do})
}

// Run carries the plan out; a bar or lines go to w, which may be nil. It ends with the first error.
func (p Plan) Run(ctx context.Context, w io.Writer, terminal bool) error {
	return p.run(ctx, newProgress(w, terminal))
}

// run ends with the first error; what goes wrong with one contender is none.
func (p Plan) run(ctx context.Context, shown *progress) error {
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

// Rotated begins with another contender in each round, so that none always comes after the same
// one.
func Rotated(runs []*Run, round int) []*Run {
	if len(runs) == 0 {
		return nil
	}
	at := round % len(runs)
	return slices.Concat(runs[at:], runs[:at])
}

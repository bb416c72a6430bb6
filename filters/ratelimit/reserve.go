package ratelimit

import (
	"context"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// token is one that was taken for a call that is to come.
type token struct {
	from   Limiter
	key    string
	window int64
}

// Reserve implements [filters.Reserver]: it takes the tokens of a call that is to come, all or none.
func (f *Filter) Reserve(x *filters.Exchange, s *filters.Slot) *filters.Reply {
	now := received(x)
	tokens := make([]token, 0, len(f.rules))
	for i := range f.rules {
		r := &f.rules[i]
		k, err := key(r.Per, x)
		if err != nil {
			f.refund(tokens, now)
			return filters.RefuseUnreadable(err)
		}
		v := r.Charge(x.Context(), Charge{Key: k, Now: now, Cost: 1})
		if r.Count(&v, false) {
			f.refund(tokens, now)
			return f.refuse(v.Decision, "", i, v.Failed)
		}
		if v.Allowed && v.From != nil {
			tokens = append(tokens, token{v.From, strings.Clone(k), v.Window})
		}
	}
	s.Ref = tokens
	return nil
}

// Return implements [filters.Reserver].
func (f *Filter) Return(s *filters.Slot) {
	if tokens, ok := s.Ref.([]token); ok {
		s.Ref = nil
		f.refund(tokens, time.Now())
	}
}

// refund gives tokens back. One that a store does not take back is spent, as it would be for a
// request that was refused behind the limit.
func (f *Filter) refund(tokens []token, now time.Time) {
	for _, t := range tokens {
		_, _ = t.from.Charge(context.Background(), Charge{Key: t.key, Now: now, Cost: -1, Window: t.window})
	}
}

package inflight

import (
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// ServiceFull is the reason of a refusal.
var ServiceFull = filters.DeclareReason("service-full", 503, "The service has as many requests to work on as it takes")

// Filter takes a place for each request to a service. It is safe for concurrent use.
type Filter struct {
	service string
	limiter *Limiter
	refused filters.Counter
}

// NewFilter returns the filter of the chains to one service.
func NewFilter(service string, l *Limiter, refused filters.Counter) *Filter {
	return &Filter{service: service, limiter: l, refused: refused}
}

// Name implements [filters.Filter].
func (f *Filter) Name() string { return "inflight" }

// Needs implements [filters.Filter]: heads only.
func (f *Filter) Needs() filters.Needs { return filters.Needs{} }

// Request refuses a request for which there is no place.
func (f *Filter) Request(_ *filters.Exchange, s *filters.Slot) *filters.Reply {
	if !f.limiter.Acquire() {
		f.refused.Inc()
		return filters.Refuse(ServiceFull, filters.Problem{Service: f.service, RetryAfter: time.Second})
	}
	s.N = 1 // there is a place to give back
	return nil
}

// Response gives the place of a stream back, which may last for as long as its client likes.
func (f *Filter) Response(x *filters.Exchange, s *filters.Slot) {
	if x.Response.Stream {
		f.release(s)
	}
}

// Done gives the place back.
func (f *Filter) Done(_ *filters.Exchange, s *filters.Slot, _ filters.Outcome) { f.release(s) }

func (f *Filter) release(s *filters.Slot) {
	if s.N == 1 {
		f.limiter.Release()
		s.N = 0
	}
}

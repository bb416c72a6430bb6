package ratelimitservice

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// descriptorsMax bounds the descriptors of one request, each of which may be a call of the store.
// They come from Envoy's configuration, so clients cannot reach it.
const descriptorsMax = 100

// Service answers Envoy's rate-limit filter. Make it with [New]. It is safe for concurrent use.
type Service struct {
	rls.UnimplementedRateLimitServiceServer

	logger    *slog.Logger
	now       func() time.Time
	table     atomic.Pointer[Table]
	unmatched filters.LogThrottle

	ok, overLimit, failed       filters.Counter
	unknownDomain, unknownLimit filters.Counter
}

// New makes a service, which is unavailable until [Service.Use]. It registers its metrics and is
// called once for a registry. logger may be nil.
func New(logger *slog.Logger, m *policy.Metrics) *Service {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	requests := m.Counter("rate_limit_service_requests_total",
		"Requests of Envoy's rate-limit filter: ok, over-limit, error.", "result")
	unmatched := m.Counter("rate_limit_service_unmatched_total",
		"Descriptors that no limit takes: unknown-domain, unknown-descriptor.", "reason")
	return &Service{
		logger: logger, now: time.Now, ok: requests.WithLabelValues("ok"),
		overLimit:     requests.WithLabelValues("over-limit"),
		failed:        requests.WithLabelValues("error"),
		unknownDomain: unmatched.WithLabelValues("unknown-domain"),
		unknownLimit:  unmatched.WithLabelValues("unknown-descriptor"),
	}
}

// Use puts a table in force. Requests under way keep the one that they began with.
func (s *Service) Use(t *Table) { s.table.Store(t) }

// ShouldRateLimit implements [rls.RateLimitServiceServer].
func (s *Service) ShouldRateLimit(ctx context.Context, r *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	response, err := s.decide(ctx, r)
	switch {
	case err != nil:
		s.failed.Inc()
		return nil, err
	case response.OverallCode == rls.RateLimitResponse_OVER_LIMIT:
		s.overLimit.Inc()
	default:
		s.ok.Inc()
	}
	return response, nil
}

func (s *Service) decide(ctx context.Context, r *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	t := s.table.Load()
	switch {
	case t == nil:
		return nil, status.Error(codes.Unavailable, "no configuration is in force yet")
	case r.GetDomain() == "": // the code and the text of envoyproxy/ratelimit, also below
		return nil, status.Error(codes.Unknown, "rate limit domain must not be empty")
	case len(r.GetDescriptors()) == 0:
		return nil, status.Error(codes.Unknown, "rate limit descriptor list must not be empty")
	case len(r.GetDescriptors()) > descriptorsMax:
		return nil, status.Errorf(codes.InvalidArgument, "%d descriptors are more than %d", len(r.GetDescriptors()),
			descriptorsMax)
	}
	var few [2]question
	questions := few[:0]
	now := s.now()
	for _, d := range r.GetDescriptors() {
		q, err := s.questionOf(t, r, d, now)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		questions = append(questions, q)
	}
	s.askAll(sooner(ctx, now), questions)
	return respond(questions), nil
}

// question is what one descriptor asks, and then its answer.
type question struct {
	limit   *limit // nil: none
	shown   *shown
	charge  ratelimit.Charge
	verdict ratelimit.Verdict
	refuses bool
}

// questionOf finds out what a descriptor asks.
func (s *Service) questionOf(t *Table, r *rls.RateLimitRequest, d *descriptor, now time.Time) (q question, err error) {
	domain := t.domains[r.GetDomain()]
	if domain == nil {
		s.unknownDomain.Inc()
		return q, nil
	}
	q.charge = ratelimit.Charge{Now: now, Cost: costOf(r, d)}
	if q.limit = domain.root.find(d.GetEntries()); q.limit != nil {
		at := q.limit.counted
		if d.GetLimit() != nil {
			at = q.limit.varying
		}
		q.charge.Key = valuesOf(d.GetEntries(), at)
	} else if d.GetLimit() != nil {
		q.limit, q.charge.Key = domain.overrides, overrideKey(d.GetEntries())
	} else {
		s.unknownLimit.Inc()
		s.warnUnmatched(domain, d, now)
		return q, nil
	}
	q.shown = &q.limit.shown
	if o := d.GetLimit(); o != nil {
		q.charge.Rate, err = rateOf(o.GetRequestsPerUnit(), o.GetUnit(), o.GetUnitMultiplier())
		own := show(q.limit.name, q.charge.Rate)
		q.shown = &own
	}
	return q, err
}

// costOf returns how many hits a descriptor takes, below 0 how many it gives back.
func costOf(r *rls.RateLimitRequest, d *descriptor) int64 {
	cost := int64(max(r.GetHitsAddend(), 1))
	if own := d.GetHitsAddend(); own != nil {
		cost = int64(min(own.GetValue(), ratelimit.CostMax))
	}
	if d.GetIsNegativeHits() {
		return -cost
	}
	return cost
}

// warnUnmatched tells of a descriptor in the gateway's own domain that no limit takes. In other
// domains that is how Envoys are meant to be configured.
func (s *Service) warnUnmatched(domain *domain, d *descriptor, now time.Time) {
	if domain.name != config.EnvoyDomain || s.unmatched.Skip(now) {
		return
	}
	var keys []string
	name := ""
	for i, e := range d.GetEntries() {
		if i == 0 && e.GetKey() == limitKey {
			name = e.GetValue()
		}
		if i < 16 {
			keys = append(keys, clip(e.GetKey()))
		}
	}
	s.unmatched.Warn(s.logger, now, "no limit takes the descriptor of an Envoy: it lets the request pass",
		"limit", clip(name), "keys", strings.Join(keys, " "))
}

// clip keeps what others send short in logs.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// askAll asks all questions: those of a store outside of the process at the same time, since its
// answers take a while; two of one limit in their order, since they may be about one count.
func (s *Service) askAll(ctx context.Context, questions []question) {
	inOrder := len(questions) == 1 || repeats(questions)
	var wg sync.WaitGroup
	for i := range questions {
		q := &questions[i]
		switch {
		case q.limit == nil:
		case !inOrder && i < len(questions)-1 && q.limit.remote():
			wg.Go(func() { s.ask(ctx, q) })
		default:
			s.ask(ctx, q)
		}
	}
	wg.Wait()
}

// repeats reports whether two questions are of one limit.
func repeats(questions []question) bool {
	for i := range questions {
		for j := range i {
			if questions[i].limit != nil && questions[i].limit == questions[j].limit {
				return true
			}
		}
	}
	return false
}

// ask asks one question. A panic is as a store that failed with a limit that is set to refuse then:
// it must neither end the process nor open the limit.
func (s *Service) ask(ctx context.Context, q *question) {
	defer func() {
		if v := recover(); v != nil {
			s.logger.Error("a panic ended a decision", "limit", q.limit.name, "panic", v, "stack",
				string(debug.Stack()))
			q.verdict, q.refuses = ratelimit.Verdict{Failed: true}, !q.limit.meter.Shadow
		}
	}()
	q.verdict = q.limit.meter.Charge(ctx, q.charge)
	if q.charge.Cost >= 0 {
		q.refuses = q.limit.meter.Count(&q.verdict, false)
	}
}

// sooner returns a context whose deadline leaves a quarter of the time for the response, so that a
// store that does not answer leaves room for the limit's failure policy.
func sooner(ctx context.Context, now time.Time) context.Context {
	at, ok := ctx.Deadline()
	if !ok {
		return ctx
	}
	return &soonerContext{ctx, at.Add(-at.Sub(now) / 4)}
}

// soonerContext says an earlier deadline than that of its parent and ends with it: stores look at
// the deadline.
type soonerContext struct {
	context.Context
	at time.Time
}

// Deadline implements [context.Context].
func (c *soonerContext) Deadline() (time.Time, bool) { return c.at, true }

package ratelimitservice

import (
	"math"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

type descriptor = envoyratelimit.RateLimitDescriptor

// respond makes the response to questions that were answered.
func respond(questions []question) *rls.RateLimitResponse {
	r := &rls.RateLimitResponse{
		OverallCode: rls.RateLimitResponse_OK,
		Statuses:    make([]*rls.RateLimitResponse_DescriptorStatus, len(questions)),
	}
	statuses := make([]rls.RateLimitResponse_DescriptorStatus, len(questions))
	refused := -1
	for i := range questions {
		q := &questions[i]
		q.fill(&statuses[i])
		r.Statuses[i] = &statuses[i]
		if q.refuses && refused < 0 {
			refused = i
		}
	}
	h := headersOf(questions, refused)
	if refused >= 0 {
		r.OverallCode = rls.RateLimitResponse_OVER_LIMIT
		r.RawBody = h.addRefusal(&questions[refused])
	}
	r.ResponseHeadersToAdd = h.list
	return r
}

// fill says how a descriptor stands.
func (q *question) fill(s *rls.RateLimitResponse_DescriptorStatus) {
	s.Code = rls.RateLimitResponse_OK
	if q.refuses {
		s.Code = rls.RateLimitResponse_OVER_LIMIT
	}
	if q.limit == nil || q.verdict.From == nil && !q.refuses {
		return // no limit, or one whose numbers are not known
	}
	s.CurrentLimit = q.shown.current
	s.LimitRemaining = uint32(min(max(q.verdict.Remaining, 0), math.MaxUint32))
	s.DurationUntilReset = &durationpb.Duration{Seconds: q.verdict.SecondsLeft()}
}

// headers are fields that Envoy adds to its response.
type headers struct {
	values []core.HeaderValue // what list points to
	list   []*core.HeaderValue
}

func (h *headers) add(key, value string) {
	if len(h.values) == cap(h.values) {
		h.list = append(h.list, &core.HeaderValue{Key: key, Value: value})
		return
	}
	h.values = append(h.values, core.HeaderValue{Key: key, Value: value})
	h.list = append(h.list, &h.values[len(h.values)-1])
}

// headersOf tells the client of the limits that are enforced, the one that refused first.
func headersOf(questions []question, refused int) headers {
	var h headers
	tightest := refused
	policies, one := 0, ""
	for i := range questions {
		q := &questions[i]
		if !q.listed() {
			continue
		}
		policies++
		one = q.shown.policy
		if q.verdict.From != nil && (tightest < 0 || refused < 0 &&
			q.verdict.Remaining < questions[tightest].verdict.Remaining) {
			tightest = i
		}
	}
	if policies == 0 {
		return h
	}
	n := 5
	if refused >= 0 {
		n = 9
	}
	h.values, h.list = make([]core.HeaderValue, 0, n), make([]*core.HeaderValue, 0, n)
	if policies > 1 {
		one = joinPolicies(questions, refused)
	}
	h.add("RateLimit-Policy", one)
	if tightest < 0 || questions[tightest].verdict.From == nil {
		return h
	}
	var buf [256]byte
	h.add("RateLimit", string(appendLimits(buf[:0], questions, refused)))
	t := &questions[tightest]
	h.add("x-ratelimit-limit", strconv.Itoa(t.shown.rate.Count))
	h.add("x-ratelimit-remaining", strconv.Itoa(max(t.verdict.Remaining, 0)))
	h.add("x-ratelimit-reset", strconv.FormatInt(t.verdict.SecondsLeft(), 10))
	return h
}

// listed reports whether clients are told of the limit.
func (q *question) listed() bool {
	return q.limit != nil && !q.limit.meter.Shadow && q.charge.Cost >= 0
}

func joinPolicies(questions []question, refused int) string {
	var b []byte
	if refused >= 0 {
		b = append(b, questions[refused].shown.policy...)
	}
	for i := range questions {
		if q := &questions[i]; i != refused && q.listed() {
			b = append(comma(b), q.shown.policy...)
		}
	}
	return string(b)
}

func appendLimits(b []byte, questions []question, refused int) []byte {
	if refused >= 0 {
		b = appendLimit(b, &questions[refused])
	}
	for i := range questions {
		if q := &questions[i]; i != refused && q.listed() {
			b = appendLimit(b, q)
		}
	}
	return b
}

func appendLimit(b []byte, q *question) []byte {
	if q.verdict.From == nil {
		return b
	}
	return ratelimit.AppendLimitItem(comma(b), q.shown.quoted, &q.verdict.Decision)
}

// comma begins another item of a list.
func comma(b []byte) []byte {
	if len(b) > 0 {
		return append(b, ", "...)
	}
	return b
}

// addRefusal adds the fields of a refusal as the gateway's own routes have it, and returns its
// body.
func (h *headers) addRefusal(q *question) []byte {
	reason := filters.RateLimited
	problem := filters.Problem{Limit: q.limit.name, RetryAfter: q.verdict.RetryAfter}
	if q.verdict.Failed {
		reason = filters.StoreUnavailable
		problem.Detail = "The limit cannot be checked, and it is set to refuse then."
	} else {
		limit := q.limit.meter.Limit
		if q.charge.Rate.Period > 0 {
			limit.Count, limit.Period, limit.Burst = q.charge.Rate.Count, q.charge.Rate.Period, q.charge.Rate.Count
		}
		problem.Detail = limit.Detail()
	}
	// Envoy refuses with 429 whatever the reason is.
	reply := filters.RefuseAs(filters.RateLimited.Status(), reason, problem)
	for _, f := range reply.Header {
		h.add(f.Name, f.Value)
	}
	return reply.Body
}

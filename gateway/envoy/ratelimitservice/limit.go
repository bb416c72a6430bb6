package ratelimitservice

import (
	"errors"
	"math"
	"time"

	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	envoytype "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/filters/ratelimit"
)

// limit is a limit with everything that can be prepared for responses.
type limit struct {
	meter   *ratelimit.Meter
	name    string
	counted []int // the entries whose values it is counted per
	varying []int // those that take several values: a rate of the descriptor's own is counted per each, shared or not
	shown   shown
}

// shown is how clients and Envoy see a limit of one rate. It is not changed once it is made, though
// many responses have it at the same time.
type shown struct {
	rate    ratelimit.Rate
	current *rls.RateLimitResponse_RateLimit
	quoted  string // the name, for the RateLimit field
	policy  string // the item in RateLimit-Policy
}

func newLimit(m *ratelimit.Meter, name string) *limit {
	return &limit{meter: m, name: name, shown: show(name, ratelimit.Rate{Count: m.Limit.Count, Period: m.Limit.Period})}
}

// remote reports whether the limit asks a store outside of the process.
func (l *limit) remote() bool { return l.meter.Fallback != nil }

// show prepares a limit of that name and rate.
func show(name string, r ratelimit.Rate) shown {
	current := &rls.RateLimitResponse_RateLimit{
		Name: name, RequestsPerUnit: uint32(min(max(r.Count, 0), math.MaxUint32)),
	}
	for _, u := range units { // the largest one that the period is a multiple of
		if r.Period%u.period == 0 || u.unit == rls.RateLimitResponse_RateLimit_SECOND {
			current.Unit = u.unit
			if n := r.Period / u.period; n > 1 {
				current.UnitMultiplier = wrapperspb.UInt32(uint32(min(n, math.MaxUint32)))
			}
			break
		}
	}
	return shown{rate: r, current: current, quoted: ratelimit.QuotedName(name), policy: ratelimit.PolicyItem(name, r)}
}

// units are those of limits. A month has 30 days and a year 365, as in envoyproxy/ratelimit.
var units = []struct {
	unit   rls.RateLimitResponse_RateLimit_Unit
	period time.Duration
}{
	{rls.RateLimitResponse_RateLimit_YEAR, 365 * day},
	{rls.RateLimitResponse_RateLimit_MONTH, 30 * day},
	{rls.RateLimitResponse_RateLimit_WEEK, 7 * day},
	{rls.RateLimitResponse_RateLimit_DAY, day},
	{rls.RateLimitResponse_RateLimit_HOUR, time.Hour},
	{rls.RateLimitResponse_RateLimit_MINUTE, time.Minute},
	{rls.RateLimitResponse_RateLimit_SECOND, time.Second},
}

const day = 24 * time.Hour

// errUnit is of an override whose rate is none.
var errUnit = errors.New("the limit of a descriptor has no unit that is known, or too long a period")

// rateOf returns the rate that a descriptor brings.
func rateOf(perUnit uint32, unit envoytype.RateLimitUnit, multiplier *wrapperspb.UInt32Value) (ratelimit.Rate, error) {
	for _, u := range units { // the two enumerations have the same numbers
		if int32(u.unit) != int32(unit) {
			continue
		}
		n := time.Duration(max(multiplier.GetValue(), 1))
		if n > periodMax/u.period {
			return ratelimit.Rate{}, errUnit
		}
		return ratelimit.Rate{Count: int(perUnit), Period: n * u.period}, nil
	}
	return ratelimit.Rate{}, errUnit
}

// periodMax is the longest period of a rate that a descriptor brings.
const periodMax = 10 * 365 * day

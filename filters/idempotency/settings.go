package idempotency

import (
	"log/slog"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Settings is the policy of one route. The configuration model has its defaults and checks it.
type Settings struct {
	Required bool // no key: 400

	// Where the key stands: Derived if there are any, else Body if it is set, else the field named
	// Header.
	Header  string
	Body    *ref.Ref
	Derived []ref.Ref

	Scope       []ref.Ref // contains the principal
	Fingerprint []ref.Ref

	TTL         time.Duration // from the end of the request
	Lease       time.Duration
	MaxInFlight time.Duration
	Wait        time.Duration // how long a duplicate waits for the first one; 0 refuses at once

	Record      []StatusRange
	NotExecuted []StatusRange
	MaxBody     int64    // a longer response is not kept
	OmitHeaders []string // fields of a response that are not kept
	MaxOpenKeys int      // live records that one principal may have on the route; 0 is any number

	Retry       bool   // an unknown outcome may be tried again: the service honours the injected key
	Probe       *Probe // the service is asked what became of an unknown outcome; nil: it is not
	FailOpen    bool   // store gone: forward without protection
	Transaction bool   // the request goes to the coordinator
}

// Probe is how a service's word on an unknown outcome is taken. A response that is neither leaves
// the outcome unknown.
type Probe struct {
	Done    []StatusRange // it was done: the probe's response is the request's
	NotDone []StatusRange // it was not done, and will not be: it is done now
}

// StatusRange is a range of status codes, both ends included.
type StatusRange struct{ From, To int }

func contains(ranges []StatusRange, status int) bool {
	for _, r := range ranges {
		if r.From <= status && status <= r.To {
			return true
		}
	}
	return false
}

// onUnknown is the setting's word.
func (s *Settings) onUnknown() string {
	switch {
	case s.Retry:
		return "retry"
	case s.Probe != nil:
		return "probe"
	}
	return "hold"
}

// Metrics counts what the filter does. Where a member is nil nobody counts.
type Metrics struct {
	Claims     filters.Counter // executions begun
	Answered   filters.Counter // ends of them with a response that is recorded
	Freed      filters.Counter // ends as if never sent
	Unknown    filters.Counter // ends without a known response
	Replays    filters.Counter // responses given from the record
	Joins      filters.Counter // duplicates joined in the process
	Conflicts  filters.Counter // refused: the first one still runs
	Mismatches filters.Counter // refused: same key, other request
	Lost       filters.Counter // claims lost to a fence or the cap
	Failures   filters.Counter // steps that the store did not take
	TooMany    filters.Counter // refused: the principal has too many open keys
	Settled    filters.Counter // questions to the service about an unknown outcome that settled it
	Undecided  filters.Counter // and those that did not
	Untrusted  filters.Counter // recorded responses that were not served: damaged, or not sealed for their record
}

// complete has something to call in each member.
func (m *Metrics) complete() {
	for _, c := range []*filters.Counter{
		&m.Claims, &m.Answered, &m.Freed, &m.Unknown, &m.Replays, &m.Joins, &m.Conflicts, &m.Mismatches, &m.Lost,
		&m.Failures, &m.TooMany, &m.Settled, &m.Undecided, &m.Untrusted,
	} {
		if *c == nil {
			*c = filters.Discard
		}
	}
}

// Prober asks the service of a route what became of the request that the exchange repeats:
// x.Logical.Key is its injected key, attempt the last one that may have reached the service. It asks the service that
// the record names; where that is empty, the one that the exchange leads to. No response came: false. What it returns
// is the caller's.
type Prober interface {
	Probe(x *filters.Exchange, service string, attempt int) (Response, bool)
}

// Options is what a filter works with.
type Options struct {
	Store   Store
	Codec   *ResponseCodec // nil: without encryption
	Calls   *Calls
	Prober  Prober // set where Settings.Probe is
	Metrics Metrics
	Logger  *slog.Logger
}

// verdict is what becomes of a key by the status of the service's response.
func (s *Settings) verdict(status int) Op {
	switch {
	case status == 408 || status == 425 || status == 429 || contains(s.NotExecuted, status):
		return Free
	case contains(s.Record, status):
		return Finish
	case 300 <= status && status <= 499:
		return Free
	}
	return MarkUnknown
}

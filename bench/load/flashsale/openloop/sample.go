package openloop

import (
	"slices"
	"time"
)

// Outcome is how one sending of a request ended.
type Outcome uint8

// The outcomes.
const (
	Succeeded Outcome = iota // 2xx
	Refused                  // another response below 500 but for 408, 425 and 429: final
	Shed                     // 429 or 503: not now
	Failed                   // another response
	TimedOut                 // no response in time
	Broken                   // no connection, or it broke
	Unsent                   // the load tool could not keep up: too many were in flight, or it was too late
)

var outcomeNames = [...]string{"succeeded", "refused", "shed", "failed", "timed out", "broken", "unsent"}

func (o Outcome) String() string { return outcomeNames[o] }

// Sample is one sending of a request.
type Sample struct {
	At      time.Duration // when it was due, since the beginning
	Latency time.Duration // since then; 0: unsent
	Kind    uint8
	Outcome Outcome
	Attempt uint8 // 0 is the first
	Repeat  bool
	Other   bool
	Slow    bool
	Final   bool // no retry follows
	Status  uint16
	Reason  uint16 // index in Result.Reasons
}

// Bought is a keyed request that was a success, or one sending of it.
type Bought struct {
	Logical  int64
	At       time.Duration
	Kind     int
	Status   int
	User     string
	Item     string
	ID       string // of the order, or of the transaction
	Replayed bool
	Other    bool // by a used key with another body: it should have been refused
}

// Result is what a run saw.
type Result struct {
	Began    time.Time
	Samples  []Sample
	Reasons  []string // the reasons that occurred; the first is ""
	Bought   []Bought
	Late     []time.Duration // of each batch of arrivals: how much later than due it was dispatched
	Logicals int64           // requests that somebody wanted answered, however often they were sent
}

// Count is how far a run is.
type Count struct {
	Sent, Succeeded, Shed, Failed int64
	InFlight                      int64
}

// Quantile returns a quantile of the durations, 0 of none. It sorts them.
func Quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	i := min(int(q*float64(len(d))), len(d)-1)
	return d[i]
}

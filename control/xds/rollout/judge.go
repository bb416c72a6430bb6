package rollout

import (
	"fmt"
	"math"
	"time"
)

// judgedFrom is the least number of requests that say something of an error rate.
const judgedFrom = 100

// judge takes the candidate back when the nodes that have it fail more requests than the others, by
// more than the setting and by more than chance.
func (r *Rollout) judge(now time.Time) bool {
	if !r.settings.Canary || r.tried.Requests < judgedFrom {
		return false
	}
	usual := 0.0
	if r.others.Requests >= judgedFrom {
		usual = r.others.rate()
	}
	allowed := (usual + r.settings.Errors) * float64(r.tried.Requests)
	if float64(r.tried.Errors) <= allowed+3*math.Sqrt(allowed) {
		return false
	}
	r.reject(now, "", fmt.Sprintf(
		"%.2f%% of %d requests failed at the nodes that had it, %.2f%% at the others; canary.errors allows %.2f%% more",
		100*r.tried.rate(), r.tried.Requests, 100*usual, 100*r.settings.Errors))
	return true
}

func (s Sample) rate() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.Errors) / float64(s.Requests)
}

// State is how a rollout stands.
type State struct {
	Phase     Phase
	Stable    string // empty: not known
	Candidate string
	Rejected  *Rejection
	Begun     time.Time // of the candidate
	FirstAck  time.Time // zero: none yet
	Until     time.Time // a canary's end; zero: not known yet
	Nodes     int
	Given     int // nodes that were offered the candidate
	Acked     int // and acknowledged it
	Silent    int // and said nothing in time
	Tried     Sample
	Others    Sample
}

// State returns how it stands.
func (r *Rollout) State() State {
	s := State{
		Stable: r.stable, Candidate: r.candidate, Rejected: r.rejected, Nodes: len(r.nodes),
	}
	switch {
	case r.candidate != "" && r.settings.Canary:
		s.Phase = OnCanary
	case r.candidate != "":
		s.Phase = RollingOut
	case r.rejected != nil:
		s.Phase = TakenBack
	case r.stable != "":
		s.Phase = Stable
	default:
		s.Phase = Idle
	}
	if r.candidate == "" {
		return s
	}
	s.Begun, s.FirstAck, s.Tried, s.Others = r.begun, r.firstAck, r.tried, r.others
	if r.settings.Canary && !r.firstAck.IsZero() {
		s.Until = r.firstAck.Add(r.settings.For)
	}
	for _, n := range r.nodes {
		switch {
		case n.acked:
			s.Given, s.Acked = s.Given+1, s.Acked+1
		case n.silent:
			s.Given, s.Silent = s.Given+1, s.Silent+1
		case n.given:
			s.Given++
		}
	}
	return s
}

// Versions are those that a rollout is about.
type Versions struct {
	Stable, Candidate string
	Previous          string // while none is stable: what nodes return to that had it
	Rejected          *Rejection
}

// Versions returns them. Two are equal when nothing was offered, put in force or taken back between.
func (r *Rollout) Versions() Versions { return Versions{r.stable, r.candidate, r.previous, r.rejected} }

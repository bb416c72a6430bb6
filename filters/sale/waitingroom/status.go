package waitingroom

import "math"

// Status is what operators see of a room.
type Status struct {
	Opened   bool    `json:"opened"`
	Waiting  int64   `json:"waiting"`          // whose number was not called; before the opening who came
	Serving  int64   `json:"serving"`          // all numbers up to it are called
	Issued   int64   `json:"issued"`           // the last number that was given out
	Early    int64   `json:"early"`            // about how many came before the opening
	Admitted int64   `json:"admitted"`         // by the whole fleet
	Speed    float64 `json:"speed"`            // numbers that are called a second
	Estimate float64 `json:"estimate_seconds"` // how long who comes now has to wait
	Failing  bool    `json:"store_failing,omitempty"`
}

// Status returns what the room heard from the store last.
func (r *Room) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := &r.gate.grant
	s := Status{
		Opened: g.Opened, Serving: int64(g.Serving), Issued: int64(g.Issued), Early: int64(r.gate.earlyCount()),
		Admitted: int64(g.Granted), Speed: g.Speed, Failing: !r.gate.failedAt.IsZero(),
	}
	if !g.Opened {
		s.Waiting = s.Early
	} else if waiting := max(g.Issued-g.Serving, 0); waiting > 0 {
		s.Waiting = int64(math.Ceil(waiting))
		if g.Speed > 0 {
			s.Estimate = math.Ceil(waiting / g.Speed)
		}
	}
	return s
}

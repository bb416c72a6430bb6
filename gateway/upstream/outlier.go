package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// Outlier is when an endpoint that fails is ejected: passed over for a while.
type Outlier struct {
	Errors int           // failures in a row that eject an endpoint, at least 1
	Eject  time.Duration // for how long at first; the nth time in a row lasts n times as long
	Max    float64       // the share of the endpoints that may be ejected at once, 0 to 1; never all
}

const (
	ejectMax    = 10 // times Eject: the longest that an endpoint is ejected, but for the jitter
	ejectJitter = .2 // the most that chance adds to it, so that neither endpoints nor gateways are in step
)

// allowed returns how many of n endpoints may be ejected at once.
func (o *Outlier) allowed(n int) int {
	return min(int(o.Max*float64(n)+1e-9), n-1) // the small number takes up the rounding of shares such as 7%
}

func sameOutlier(a, b *Outlier) bool { return a == b || a != nil && b != nil && *a == *b }

// ejections are those of one endpoint.
type ejections struct {
	row   int       // how many in a row
	until time.Time // the present or last one ends
}

// begin counts one more and returns how long it lasts. Each Eject for which the endpoint was used
// without one takes one back from the row.
func (j *ejections) begin(now time.Time, o *Outlier, random float64) time.Duration {
	if used := now.Sub(j.until); used > 0 && j.row > 0 {
		j.row -= int(min(int64(used/o.Eject), int64(j.row)))
	}
	j.row = min(j.row+1, ejectMax)
	d := o.Eject * time.Duration(j.row)
	d += time.Duration(ejectJitter * random * float64(d))
	j.until = now.Add(d)
	return d
}

// end ends the present one before its time.
func (j *ejections) end(now time.Time) {
	if now.Before(j.until) {
		j.until = now
	}
}

// outlier is what an endpoint has against it. All but failures and ejected is under the mutex of its
// service's outliers.
type outlier struct {
	failures atomic.Int32 // in a row
	ejected  atomic.Bool
	history  ejections
	turn     uint64      // which ejection it is
	timer    *time.Timer // ends it
}

// outliers decides which endpoints of a service are ejected. A request takes its mutex only when it
// has failed often enough.
type outliers struct {
	mu       sync.Mutex
	closed   bool
	roomMade time.Time // when ejections were ended to make room
}

// verdict is what an attempt says of its endpoint.
type verdict uint8

const (
	nothing verdict = iota
	failure
	success
)

// observe takes what has become of an attempt at the endpoint: a response, or one of the package's
// errors.
func (e *endpoint) observe(ctx context.Context, x *filters.Exchange, r Response, on condition, err error) {
	if err != nil {
		// The caller may have left, or its own time be over, which was too short to connect perhaps.
		if ctx.Err() == nil && (on != connectFailure || !late(x, time.Now())) {
			e.take(verdictOfError(on, err))
		}
		return
	}
	status, header, _ := r.Head()
	if status >= 500 {
		e.take(failure)
		return
	}
	two, ok := r.(*h2Response) // gRPC has no other version
	switch {
	case !ok || !x.IsGRPC():
		e.take(success)
	case header.Get("Grpc-Status") == "":
		two.gRPC = true // its end tells
	default:
		e.take(verdictOfFields(header))
	}
}

// verdictOfFields is by the status of gRPC among the fields. DEADLINE_EXCEEDED says nothing: the time was
// the client's as a rule.
func verdictOfFields(h filters.Header) verdict {
	r := filters.Response{Header: h}
	switch code, ok := r.GRPCStatus(); {
	case ok && code == filters.GRPCDeadlineExceeded:
		return nothing
	case ok && code.ServerFault():
		return failure
	}
	return success
}

// verdictOfError says nothing of the endpoint where the client has left, named a short time or broke its
// own body, where the gateway lacks something, and where a connection that was kept proved closed: a
// service may close those.
func verdictOfError(on condition, err error) verdict {
	switch {
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrFailed):
		return failure
	case !errors.Is(err, ErrUnreachable), on == resetBeforeRequest, on == connectFailure && asConnectError(err) == nil:
		return nothing
	}
	return failure
}

// take counts a verdict, and ejects the endpoint when it was one failure too many.
func (e *endpoint) take(v verdict) {
	switch v {
	case success:
		if e.outlier.failures.Load() != 0 {
			e.outlier.failures.Store(0)
		}
	case failure:
		o := e.service.current.Load().settings.Outlier
		if n := e.outlier.failures.Add(1); o != nil && int(n) >= o.Errors && !e.outlier.ejected.Load() {
			e.service.eject(e, time.Now())
		}
	}
}

// eject ejects an endpoint, as long as no more than the allowed share is, and another one is left that
// is not passed over. Where all that are not ejected fail, those that are come back, and make room for
// those that fail now.
func (s *Service) eject(e *endpoint, now time.Time) {
	d, back := s.outliers.eject(s, e, now)
	for _, other := range back {
		s.metrics.Readmitted(other.address)
	}
	if d > 0 {
		s.metrics.Ejected(e.address, d)
	}
}

// eject returns for how long the endpoint is ejected, 0: it is not, and which ones came back for it.
func (q *outliers) eject(s *Service, e *endpoint, now time.Time) (d time.Duration, back []*endpoint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := s.current.Load() // no older than what the last settle had
	o := c.settings.Outlier
	if o == nil || q.closed || e.removed.Load() || e.outlier.ejected.Load() || !slices.Contains(c.endpoints, e) {
		return 0, nil
	}
	ejected, left := 0, false
	for _, other := range c.endpoints {
		if other.outlier.ejected.Load() {
			ejected++
		}
		left = left || other != e && !other.out()
	}
	if allowed := o.allowed(len(c.endpoints)); !left || ejected >= allowed {
		if back = q.makeRoomLocked(e, c.endpoints, o, now); back == nil || allowed < 1 {
			return 0, back
		}
	}
	return e.ejectLocked(s, o, now), back
}

// roomEvery is how often ejections are ended to make room: where all endpoints fail, that would go round.
const roomEvery = time.Second

// makeRoomLocked ends the ejections where an endpoint fails, and so does every other that is not ejected,
// and returns those that came back. None does where those that are ejected are known not to work. Such an
// ejection does not count in a row: what works least is not what was ejected.
func (q *outliers) makeRoomLocked(e *endpoint, endpoints []*endpoint, o *Outlier, now time.Time) (back []*endpoint) {
	if now.Sub(q.roomMade) < roomEvery {
		return nil
	}
	usable := false
	for _, other := range endpoints {
		switch failing := other == e || int(other.outlier.failures.Load()) >= o.Errors; {
		case other.dead():
		case other.outlier.ejected.Load():
			usable = true
		case !failing:
			return nil
		}
	}
	if !usable {
		return nil
	}
	q.roomMade = now
	for _, other := range endpoints {
		if other.readmitLocked(now) {
			other.outlier.history.row = max(other.outlier.history.row-1, 0)
			back = append(back, other)
		}
	}
	return back
}

func (e *endpoint) ejectLocked(s *Service, o *Outlier, now time.Time) time.Duration {
	d := e.outlier.history.begin(now, o, rand.Float64())
	e.outlier.failures.Store(0)
	e.outlier.ejected.Store(true)
	e.outlier.turn++
	turn := e.outlier.turn
	e.outlier.timer = time.AfterFunc(d, func() { s.readmit(e, turn) })
	return d
}

// readmit ends an ejection when its time is over, unless it has ended before.
func (s *Service) readmit(e *endpoint, turn uint64) {
	if s.outliers.readmit(e, turn, time.Now()) {
		s.metrics.Readmitted(e.address)
	}
}

func (q *outliers) readmit(e *endpoint, turn uint64, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return turn == e.outlier.turn && e.readmitLocked(now)
}

// readmitLocked reports whether the endpoint was ejected.
func (e *endpoint) readmitLocked(now time.Time) bool {
	if !e.outlier.ejected.Load() {
		return false
	}
	e.outlier.timer.Stop()
	e.outlier.history.end(now)
	e.outlier.failures.Store(0)
	e.outlier.ejected.Store(false)
	return true
}

// settle follows a configuration that is published: no more endpoints stay ejected than it allows,
// those with the least time left come back first. Those that have been removed come back from
// nothing.
func (q *outliers) settle(next *configuration, removed []*endpoint, now time.Time) (back []*endpoint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range removed {
		if e.readmitLocked(now) {
			back = append(back, e)
		}
	}
	var ejected []*endpoint
	for _, e := range next.endpoints {
		if e.outlier.ejected.Load() {
			ejected = append(ejected, e)
		}
	}
	allowed := 0
	if o := next.settings.Outlier; o != nil {
		allowed = max(o.allowed(len(next.endpoints)), 0)
	}
	slices.SortFunc(ejected, func(a, b *endpoint) int {
		return a.outlier.history.until.Compare(b.outlier.history.until)
	})
	for _, e := range ejected[:max(len(ejected)-allowed, 0)] {
		e.readmitLocked(now)
		back = append(back, e)
	}
	return back
}

// close ends every ejection; there is none after it.
func (q *outliers) close(endpoints []*endpoint, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, e := range endpoints {
		e.readmitLocked(now)
	}
}

// Ejects reports whether endpoints that fail are ejected.
func (s *Service) Ejects() bool { return s.current.Load().settings.Outlier != nil }

// left returns how long an endpoint is still ejected.
func (q *outliers) left(e *endpoint, now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !e.outlier.ejected.Load() {
		return 0
	}
	return max(e.outlier.history.until.Sub(now), 0)
}

//go:build !race

package overload

import (
	"testing"
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// oracle knows at any time how many workers the service has, and who was served how often. Marks that
// it misses nobody can be asked to keep.
type oracle struct {
	scenario *scenario
	service  *serviceSpec
	short    int // how many wait, besides critical ones, while more comes than fits
	inFlight int
	queue    []*call
	served   map[uint64]int // by principal
	decide   decide
}

const (
	oracleRoom  = 2 // more than workers, so that none idles between two calls
	oracleQueue = 64
	oracleShort = 3  // while more comes than fits
	oracleFair  = 32 // while only a flood of few principals does not fit
	oracleWait  = 75 * time.Millisecond
	// oracleUnfair is how many more calls of a principal may be served before another displaces it.
	oracleUnfair = 8
)

func oracleOf(s *scenario) contender {
	short := oracleShort
	if s.key == "inversion" {
		short = oracleFair
	}
	return contender{name: "oracle", new: func(_ time.Time, _ uint64, _ told, d decide) controller {
		return &oracle{scenario: s, short: short, service: &s.services[0], served: map[uint64]int{}, decide: d}
	}}
}

func (o *oracle) limit(now time.Time) int {
	return int(o.service.workers.value(now.Sub(epoch))+1e-9) + oracleRoom
}

// before tells which of two calls is the better one.
func (o *oracle) before(a, b *call) bool {
	if a.class != b.class {
		return a.class < b.class
	}
	if a.demoted != b.demoted {
		return b.demoted
	}
	if more := o.served[a.principal] - o.served[b.principal]; more >= oracleUnfair || -more >= oracleUnfair {
		return more < 0
	}
	return a.asked < b.asked
}

func (o *oracle) acquire(now time.Time, c *call) verdict {
	if o.inFlight < o.limit(now) {
		o.admit(c)
		return admitted
	}
	if o.hopeless(now, c.class) {
		return shed
	}
	room := oracleQueue
	if o.hopeless(now, limiter.Low+1) { // more comes than fits: who waits would be displaced
		room = o.short
	}
	if c.class != limiter.Critical && !c.undo && o.others() >= room && !o.displace(c) {
		return shed
	}
	o.queue = append(o.queue, c)
	return queued
}

// others counts who waits and is not critical.
func (o *oracle) others() int {
	n := 0
	for _, c := range o.queue {
		if c.class != limiter.Critical {
			n++
		}
	}
	return n
}

// hopeless tells whether better classes alone bring more than the service can do.
func (o *oracle) hopeless(now time.Time, class limiter.Class) bool {
	at, better := now.Sub(epoch), 0.0
	for _, s := range o.scenario.streams {
		for _, share := range s.classes[:class] {
			better += s.rate.value(at) * share
		}
	}
	return better > o.service.capacity(at, at+time.Millisecond)
}

// displace makes room in the queue for a call that is much better than the worst that waits.
func (o *oracle) displace(c *call) bool {
	worst := 0
	for i := range o.queue {
		if o.before(o.queue[worst], o.queue[i]) {
			worst = i
		}
	}
	w := o.queue[worst]
	if c.class == w.class && o.served[w.principal]-o.served[c.principal] < oracleUnfair || !o.before(c, w) {
		return false
	}
	o.decide(o.remove(worst), shed)
	return true
}

func (o *oracle) admit(c *call) {
	o.inFlight++
	o.served[c.principal]++
}

func (o *oracle) remove(i int) *call {
	c := o.queue[i]
	o.queue = append(o.queue[:i], o.queue[i+1:]...)
	return c
}

func (o *oracle) leave(_ time.Time, c *call) {
	for i := range o.queue {
		if o.queue[i] == c {
			o.remove(i)
			return
		}
	}
}

func (o *oracle) release(now time.Time, _ *call, _ outcome, _ time.Duration) {
	o.inFlight--
	o.fill(now)
}

func (o *oracle) fill(now time.Time) {
	for len(o.queue) > 0 && o.inFlight < o.limit(now) {
		best := 0
		for i := range o.queue {
			if o.before(o.queue[i], o.queue[best]) {
				best = i
			}
		}
		c := o.remove(best)
		o.admit(c)
		o.decide(c, admitted)
	}
}

func (o *oracle) tick(now time.Time) time.Time {
	o.fill(now)
	var next time.Time
	for i := 0; i < len(o.queue); i++ {
		due := epoch.Add(o.queue[i].asked).Add(oracleWait)
		if o.queue[i].class != limiter.Critical && !now.Before(due) {
			o.decide(o.remove(i), shed)
			i--
			continue
		}
		if now.Before(due) && (next.IsZero() || due.Before(next)) {
			next = due
		}
	}
	return next
}

func (o *oracle) state() state {
	return state{inFlight: float64(o.inFlight), queued: float64(len(o.queue))}
}

// TestMarksCanBeKept shows that the scenarios ask nothing impossible.
func TestMarksCanBeKept(t *testing.T) {
	all := scenarios(true)
	for i := range all {
		s := &all[i]
		if len(s.services) > 1 || s.gateways > 1 {
			continue
		}
		for seed := range uint64(2) {
			r, err := simulate(t.Context(), s, oracleOf(s), 1+seed)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range found(s, "oracle", r).Missed() {
				t.Errorf("seed %d: %s: %.4g%s, want %s", 1+seed, m.What, *m.Got, m.Unit, m.Bound())
			}
		}
	}
}

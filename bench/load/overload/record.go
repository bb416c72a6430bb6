package overload

import (
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

const classes = int(limiter.Low) + 1

// second is what happened in one second of virtual time. What becomes of a request counts where it
// began if the field says so, else when it happened.
type second struct {
	requests  [classes]int // that began
	answered  [classes]int // of these: served at last, by whatever attempt
	firstTry  [classes]int // of these: served by the first attempt
	greedy    int          // of these: by a greedy principal
	greedyGot int          // of those: served at last
	obeying   int          // of these: of clients that wait for Retry-After
	obeyGot   int          // of those: served at last

	attempts  int
	shedBegan [classes]int // attempts that began here and were shed

	served        [classes]int // attempts, when they were
	routes        []int        // the same by route
	shed          [classes]int
	timedOut      int
	failed        int
	compensations int // because a step was shed
	otherwise     int // compensations for another reason

	// By tenths of the second, for the time to recover.
	tenthCame, tenthServed [10]int

	latencies []float64 // ms, of admitted attempts as their clients saw it; who gave up counts with its patience
	shedAfter []float64 // ms, until an attempt was told that it is shed
}

// sample is the state at one moment.
type sample struct {
	state
	at     time.Duration
	inside int // calls in the services and their queues
}

// record is what happened in a run.
type record struct {
	seconds       []second
	samples       []sample
	calls         int // that services got, but for compensations
	requestsSent  int // distinct requests among them, by step
	waited        time.Duration
	busy          []time.Duration // worker time by service
	length        time.Duration   // of the run, with what came after the last request
	unfinished    int
	offeredTotal  int // attempts
	servedTotal   int
	shedTotal     int
	timedOutTotal int
	failedTotal   int
}

func newRecord(s *scenario) *record {
	r := &record{seconds: make([]second, int((s.end+drainMost)/time.Second)+2)}
	for i := range r.seconds {
		r.seconds[i].routes = make([]int, len(s.routes))
	}
	return r
}

func (r *record) in(at time.Duration) *second { return &r.seconds[at/time.Second] }

func (r *record) began(q *request) {
	s := r.in(q.born)
	s.requests[q.class]++
	s.tenthCame[tenth(q.born)]++
	if q.greedy {
		s.greedy++
	}
	if q.obeys {
		s.obeying++
	}
}

func (r *record) attempted(a *attempt) {
	r.in(a.at).attempts++
	r.offeredTotal++
}

func (r *record) served(now time.Duration, a *attempt) {
	s := r.in(now)
	s.served[a.class]++
	s.tenthServed[tenth(now)]++
	s.routes[a.stream.route]++
	s.latencies = append(s.latencies, milliseconds(now-a.at))
	began := r.in(a.born)
	began.answered[a.class]++
	if a.number == 1 {
		began.firstTry[a.class]++
	}
	if a.greedy {
		began.greedyGot++
	}
	if a.obeys {
		began.obeyGot++
	}
	r.servedTotal++
	r.waited += now - a.at
}

func (r *record) shed(now time.Duration, a *attempt) {
	s := r.in(now)
	s.shed[a.class]++
	s.shedAfter = append(s.shedAfter, milliseconds(now-a.at))
	r.in(a.at).shedBegan[a.class]++
	r.shedTotal++
	r.waited += now - a.at
}

func (r *record) timedOut(now time.Duration, a *attempt) {
	s := r.in(now)
	s.timedOut++
	if c := a.calls[a.step]; c.stage == atService || a.step > 0 {
		s.latencies = append(s.latencies, milliseconds(now-a.at))
	} else {
		s.shedAfter = append(s.shedAfter, milliseconds(now-a.at)) // it waited at the gateway all the time
	}
	r.timedOutTotal++
	r.waited += now - a.at
}

func (r *record) failed(now time.Duration, a *attempt) {
	r.in(now).failed++
	r.failedTotal++
	r.waited += now - a.at
}

func (r *record) dispatched(c *call) {
	if c.undo {
		return
	}
	r.calls++
	if c.attempt.step >= c.attempt.stepsSent {
		r.requestsSent++
		c.attempt.stepsSent = c.attempt.step + 1
	}
}

func (r *record) compensated(now time.Duration, byShedding bool) {
	if byShedding {
		r.in(now).compensations++
	} else {
		r.in(now).otherwise++
	}
}

func (r *record) sampled(now time.Duration, s state, inside int) {
	r.samples = append(r.samples, sample{s, now, inside})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func tenth(at time.Duration) int { return int(at % time.Second / (time.Second / 10)) }

// window returns how many requests were served and began in a stretch of whole tenths.
func (r *record) window(from, to time.Duration) (good, came float64) {
	for at := from; at < to; at += time.Second / 10 {
		s := r.in(at)
		good += float64(s.tenthServed[tenth(at)])
		came += float64(s.tenthCame[tenth(at)])
	}
	return good, came
}

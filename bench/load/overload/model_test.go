package overload

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestClockRunsEventsInOrder(t *testing.T) {
	var c clock
	random := rand.New(rand.NewPCG(1, 1))
	var want []time.Duration
	for range 1000 {
		at := time.Duration(random.IntN(200)) // many at one moment
		want = append(want, at)
		c.at(at, nil)
	}
	c.timeout(nil)
	c.timeout(nil)
	want = append(want, clientTimeout, clientTimeout)
	slices.Sort(want)
	var got []time.Duration
	last := event{}
	for {
		e, ok := c.next()
		if !ok {
			break
		}
		if e.at == last.at && e.seq < last.seq {
			t.Fatalf("event %d came after %d of the same moment", e.seq, last.seq)
		}
		last = e
		got = append(got, e.at)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.at(c.now-1, nil)
	if e, _ := c.next(); e.at != c.now || c.now < last.at {
		t.Errorf("an event of the past came at %d, now is %d", e.at, c.now)
	}
}

func TestProfile(t *testing.T) {
	const s = time.Second
	step := steps(point{0, 1}, point{10 * s, 3}, point{20 * s, 2})
	slope := profile{{10 * s, 4}, {20 * s, 2}}
	values := []struct {
		name string
		p    profile
		at   time.Duration
		want float64
	}{
		{"constant", constant(7), 3 * s, 7},
		{"before a step", step, 10*s - 1, 1},
		{"at a step", step, 10 * s, 3},
		{"behind the last step", step, 99 * s, 2},
		{"before a slope", slope, 0, 4},
		{"on a slope", slope, 15 * s, 3},
		{"behind a slope", slope, 30 * s, 2},
	}
	for _, test := range values {
		if got := test.p.value(test.at); math.Abs(got-test.want) > 1e-6 {
			t.Errorf("%s: value %v, want %v", test.name, got, test.want)
		}
	}
	means := []struct {
		name     string
		p        profile
		from, to time.Duration
		want     float64
	}{
		{"constant", constant(7), 0, s, 7},
		{"over a step", step, 5 * s, 15 * s, 2},
		{"over two steps", step, 0, 40 * s, 2},
		{"over a slope", slope, 0, 30 * s, 3},
		{"no time", slope, 15 * s, 15 * s, 3},
	}
	for _, test := range means {
		if got := test.p.mean(test.from, test.to); math.Abs(got-test.want) > 1e-6 {
			t.Errorf("%s: mean %v, want %v", test.name, got, test.want)
		}
	}
	if step.most() != 3 || slope.most() != 4 {
		t.Errorf("greatest values %v and %v, want 3 and 4", step.most(), slope.most())
	}
}

func TestWorkIsDoneAtTheSpeedOfItsTime(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name        string
		speed       profile
		start, work time.Duration
		want        time.Duration
	}{
		{"usual", nil, 5 * ms, 25 * ms, 30 * ms},
		{"a third", constant(1.0 / 3), 0, 25 * ms, 75 * ms},
		{"slower in between", steps(point{0, 1}, point{10 * ms, 0.5}), 0, 20 * ms, 30 * ms},
		{"a standstill", steps(point{0, 1}, point{10 * ms, 0}, point{3010 * ms, 1}), 0, 20 * ms, 3020 * ms},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newService(&serviceSpec{workers: constant(1), mean: test.work, speed: test.speed}, &clock{}, nil, nil)
			if got := s.finish(test.start, test.work); (got - test.want).Abs() > ms/100 {
				t.Errorf("done at %v, want %v", got, test.want)
			}
		})
	}
}

func TestServiceFinishesInOrderWhatNobodyWaitsFor(t *testing.T) {
	var c clock
	var done []*call
	spec := &serviceSpec{workers: steps(point{0, 2}, point{50 * time.Millisecond, 1}), mean: 10 * time.Millisecond,
		work: func(*rand.Rand) float64 { return 1 }}
	s := newService(spec, &c, rand.New(rand.NewPCG(1, 1)), func(c *call, _ bool) { done = append(done, c) })
	var calls []*call
	for range 20 {
		one := &call{stage: ended}
		calls = append(calls, one)
		s.take(one)
	}
	for {
		e, ok := c.next()
		if !ok {
			break
		}
		e.run()
		if s.busy > 2 || c.now > 50*time.Millisecond && s.busy > 1 {
			t.Fatalf("%d at work at %v", s.busy, c.now)
		}
	}
	if !slices.Equal(done, calls) {
		t.Errorf("the order of the calls was not kept, or %d of %d were finished", len(done), len(calls))
	}
	// Ten in the first 50 ms, two at a time; then one after the other.
	if want := 150 * time.Millisecond; c.now != want {
		t.Errorf("all were done at %v, want %v", c.now, want)
	}
	if want := 200 * time.Millisecond; s.busyTime != want {
		t.Errorf("the workers were busy for %v, want %v", s.busyTime, want)
	}
}

func TestCapacity(t *testing.T) {
	const s = time.Second
	usual := usualService()
	slow := usual
	slow.speed = steps(point{0, 1}, point{10 * s, 0.5})
	few := usual
	few.workers = steps(point{0, 8}, point{10 * s, 4})
	failing := usual
	failing.failing = constant(0.5)
	tests := []struct {
		name     string
		spec     serviceSpec
		from, to time.Duration
		want     float64
	}{
		{"usual", usual, 0, s, 320},
		{"at half the speed", slow, 10 * s, 11 * s, 160},
		{"over the change", slow, 9 * s, 11 * s, 240},
		{"half the workers", few, 20 * s, 30 * s, 160},
		{"half fail at once", failing, 0, s, 8 / 0.026}, // 26 ms of a worker for each success
	}
	for _, test := range tests {
		if got := test.spec.capacity(test.from, test.to); math.Abs(got-test.want) > 0.5 {
			t.Errorf("%s: %v a second, want %v", test.name, got, test.want)
		}
	}
}

// An M/M/1 queue has a textbook's mean time in the system: 1 / (service rate - arrival rate).
func TestQueueIsThatOfTheTextbook(t *testing.T) {
	service := serviceSpec{name: "one", workers: constant(1), mean: 10 * time.Millisecond,
		work: func(random *rand.Rand) float64 { return random.ExpFloat64() }}
	s := single("M/M/1", "", service, stream{rate: constant(60), classes: usual}, phase{to: 2000 * time.Second})
	r, err := simulate(t.Context(), &s, named(t, None), 1)
	if err != nil {
		t.Fatal(err)
	}
	got := r.waited.Seconds() / float64(r.servedTotal)
	if want := 1 / (100.0 - 60.0); math.Abs(got/want-1) > 0.05 {
		t.Errorf("mean time in the system %.4f s, want %.4f s", got, want)
	}
	if rate := float64(r.offeredTotal) / 2000; math.Abs(rate/60-1) > 0.02 {
		t.Errorf("%.1f arrivals a second, want 60", rate)
	}
	if used := r.busy[0].Seconds() / 2000; math.Abs(used-0.6) > 0.02 {
		t.Errorf("the worker was busy for %.3f of the time, want 0.6", used)
	}
}

func TestArrivalsArePoisson(t *testing.T) {
	s := single("arrivals", "", usualService(), shopper(steps(point{0, 100}, point{500 * time.Second, 200})),
		phase{to: 1000 * time.Second})
	r, err := simulate(t.Context(), &s, named(t, None), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		from int
		rate float64
	}{{0, 100}, {500, 200}} {
		total, squares := 0.0, 0.0
		critical := 0
		for _, second := range r.seconds[part.from : part.from+500] {
			n := float64(sum(second.requests))
			total += n
			squares += (n - part.rate) * (n - part.rate)
			critical += second.requests[0]
		}
		if mean := total / 500; math.Abs(mean/part.rate-1) > 0.03 {
			t.Errorf("%.1f a second, want %v", mean, part.rate)
		}
		if spread := squares / 500 / part.rate; math.Abs(spread-1) > 0.2 {
			t.Errorf("variance is %.2f of the mean, want 1", spread)
		}
		if share := float64(critical) / total; math.Abs(share-0.05) > 0.005 {
			t.Errorf("%.3f of the requests are critical, want 0.05", share)
		}
	}
}

// named returns a contender.
func named(t *testing.T, name string) contender {
	t.Helper()
	found, err := wanted(withFailsafe(t), []string{name}, func(c contender) string { return c.name })
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

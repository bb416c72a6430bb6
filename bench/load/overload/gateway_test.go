package overload

import (
	"testing"
	"time"
)

// scripted sheds what the script says, and has a door if it is wrapped so.
type scripted struct {
	semaphore
	sheds func(now time.Time, c *call) bool
	waits []time.Time // when calls came
}

func (s *scripted) acquire(now time.Time, c *call) verdict {
	s.waits = append(s.waits, now)
	if !c.undo && s.sheds(now, c) {
		return shed
	}
	s.inFlight++
	return admitted
}

type scriptedDoor struct {
	*scripted
	reserved, cancelled int
	closed              bool
}

func (s *scriptedDoor) reserve(time.Time, *call) bool {
	if s.closed {
		return false
	}
	s.reserved++
	return true
}

func (s *scriptedDoor) cancel(time.Time, *call) { s.cancelled++ }

// steps3Once is scenario B with a few checkouts only.
func steps3Once() scenario {
	s := steps3(lengths{time.Second, time.Second, time.Second})
	s.streams = s.streams[1:]
	s.streams[0].rate = constant(20)
	return s
}

func TestStepsThatWereDoneAreUndoneWhenALaterOneIsShed(t *testing.T) {
	s := steps3Once()
	r, err := simulate(t.Context(), &s, contender{new: func(time.Time, uint64, told, decide) controller {
		return &scripted{semaphore: semaphore{limit: unlimited}, sheds: func(_ time.Time, c *call) bool {
			return c.service == 2
		}}
	}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	compensations := 0
	for _, second := range r.seconds {
		compensations += second.compensations
	}
	if r.offeredTotal == 0 || r.shedTotal != r.offeredTotal || compensations != 2*r.shedTotal {
		t.Errorf("%d attempts, %d shed, %d compensations; want all shed, two compensations each", r.offeredTotal,
			r.shedTotal, compensations)
	}
}

func TestTheDoorIsAskedForEveryStep(t *testing.T) {
	s := steps3Once()
	var doors []*scriptedDoor
	r, err := simulate(t.Context(), &s, contender{new: func(time.Time, uint64, told, decide) controller {
		d := &scriptedDoor{scripted: &scripted{semaphore: semaphore{limit: unlimited}, sheds: func(_ time.Time,
			c *call) bool {
			return c.service == 1 // a service that breaks the promise of its door
		}}, closed: false}
		doors = append(doors, d)
		return d
	}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range doors {
		if d.reserved != r.offeredTotal {
			t.Errorf("service %d: %d reservations for %d attempts", i, d.reserved, r.offeredTotal)
		}
	}
	if doors[2].cancelled != r.offeredTotal {
		t.Errorf("%d reservations of the last step were given back, want %d", doors[2].cancelled, r.offeredTotal)
	}
	if n := len(doors[2].waits); n != 0 {
		t.Errorf("the last service was called %d times", n)
	}
}

func TestNothingIsBegunBehindAClosedDoor(t *testing.T) {
	s := steps3Once()
	var doors []*scriptedDoor
	r, err := simulate(t.Context(), &s, contender{new: func(time.Time, uint64, told, decide) controller {
		d := &scriptedDoor{scripted: &scripted{semaphore: semaphore{limit: unlimited}}, closed: len(doors) == 2}
		doors = append(doors, d)
		return d
	}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.shedTotal != r.offeredTotal || r.calls != 0 {
		t.Errorf("%d of %d attempts were shed, %d calls made; want all and none", r.shedTotal, r.offeredTotal, r.calls)
	}
	for i, d := range doors[:2] {
		if d.reserved != r.offeredTotal || d.cancelled != d.reserved {
			t.Errorf("service %d: %d reserved, %d given back, %d attempts", i, d.reserved, d.cancelled, r.offeredTotal)
		}
	}
}

func TestClientsComeBackWhenTold(t *testing.T) {
	for _, test := range []struct {
		name     string
		ignoring float64
		least    time.Duration // between two attempts
		most     time.Duration
	}{
		{"obeying", 0, time.Second, time.Second + patienceMost},
		{"ignoring", 1, backOffLeast, backOffMost},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := retrying(constant(1), 2)
			all.ignoring = test.ignoring
			s := single("one", "", usualService(), all, phase{to: 3 * time.Second})
			came := map[*request][]time.Time{}
			demoted := 0
			r, err := simulate(t.Context(), &s, contender{new: func(time.Time, uint64, told, decide) controller {
				return &scripted{sheds: func(now time.Time, c *call) bool {
					came[c.request] = append(came[c.request], now)
					if c.demoted {
						demoted++
					}
					return true
				}}
			}}, 4)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range came {
				if len(at) != 3 {
					t.Errorf("%d attempts, want 3", len(at))
				}
				for i := 1; i < len(at); i++ {
					if gap := at[i].Sub(at[i-1]); gap < test.least || gap > test.most {
						t.Errorf("came back after %v, want %v to %v", gap, test.least, test.most)
					}
				}
			}
			if want := 2 * len(came) * int(test.ignoring); demoted != want || len(came) == 0 {
				t.Errorf("%d attempts of %d requests came too soon, want %d", demoted, r.offeredTotal, want)
			}
		})
	}
}

func TestAClientThatGivesUpIsATimeout(t *testing.T) {
	service := usualService()
	service.speed = constant(0.01)
	s := single("stuck", "", service, shopper(constant(20)), phase{to: 2 * time.Second})
	r, err := simulate(t.Context(), &s, named(t, None), 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.timedOutTotal != r.offeredTotal || r.waited != time.Duration(r.offeredTotal)*clientTimeout {
		t.Errorf("%d of %d attempts timed out, after %v in all", r.timedOutTotal, r.offeredTotal, r.waited)
	}
	p := found(&s, None, r).Phases[0]
	if p.P99 != 1000 || p.Goodput != 0 || p.ShedShare != 0 {
		t.Errorf("p99 %v ms, goodput %v, shed %v; want 1000, 0 and 0", p.P99, p.Goodput, p.ShedShare)
	}
}

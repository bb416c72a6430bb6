package waitingroom_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom/waitingroommemory"
)

// remote is a store that takes its time to answer.
type remote struct {
	waitingroom.Store
	takes time.Duration
	calls atomic.Int64
}

func (s *remote) Exchange(ctx context.Context, sale string, r *waitingroom.Report) (waitingroom.Grant, error) {
	s.calls.Add(1)
	time.Sleep(s.takes / 2)
	defer time.Sleep(s.takes / 2)
	return s.Store.Exchange(ctx, sale, r)
}

func settings(rate float64) waitingroom.Settings {
	return waitingroom.Settings{
		Sale: "double-eleven", Rate: rate, TicketTTL: 10 * time.Minute, Cookie: "sluice-ticket",
		Header: "Sluice-Ticket", Secret: []byte("a secret of the whole fleet"),
	}
}

// fleet is some gateways on one store.
type fleet struct {
	rooms []*waitingroom.Room
	store *remote
}

func newFleet(n int, s waitingroom.Settings) *fleet {
	f := &fleet{store: &remote{Store: waitingroommemory.New(time.Now), takes: time.Millisecond}}
	for range n {
		f.rooms = append(f.rooms, waitingroom.New(s, waitingroom.Options{Store: f.store}))
	}
	return f
}

func exchange(principal, ticket string) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Method, x.Scheme, x.Host, x.Path = "POST", "https", "shop.example", "/checkout"
	x.Principal, x.Ticket = principal, ticket
	return x
}

// buyer asks again when it was told to, with its ticket, until it is admitted or gives up.
type buyer struct {
	principal string
	ticket    string
	polls     int
	places    []int // that it was told
}

// once asks one gateway; the time is when to come back, 0 when it was admitted.
func (b *buyer) once(t testing.TB, r *waitingroom.Room) time.Duration {
	x := exchange(b.principal, b.ticket)
	b.polls++
	until, reply := int64(0), r.Wait(time.Now(), x) // before the claim of its key, and Enter behind it
	if reply == nil {
		until, reply = r.Enter(time.Now(), x)
	}
	if reply == nil {
		if until != 0 {
			r.Stamp(x, &x.Response.Header, until)
			b.ticket = string([]byte(x.Response.Header.Get("Sluice-Ticket")))
		}
		return 0
	}
	if reply.Reason != waitingroom.Waiting {
		t.Errorf("%s: %d %s", b.principal, reply.Status, reply.Reason)
	}
	if text := reply.Header.Get("Sluice-Ticket"); text != "" {
		b.ticket = text
	}
	if place, ok := number(reply.Body, "place"); ok {
		b.places = append(b.places, place)
	}
	seconds, err := strconv.Atoi(reply.Header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		t.Errorf("Retry-After: %q", reply.Header.Get("Retry-After"))
		return time.Second
	}
	return time.Duration(seconds) * time.Second
}

// number reads a member of a document that is a number.
func number(body []byte, name string) (n int, ok bool) {
	_, rest, ok := strings.Cut(string(body), `"`+name+`":`)
	if !ok {
		return 0, false
	}
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(rest[:max(digits, 0)])
	return n, err == nil
}

// admissions are when buyers were admitted.
type admissions struct {
	mu sync.Mutex
	at []admission
}

type admission struct {
	buyer int
	came  time.Duration // both since the begin
	at    time.Duration
}

func (a *admissions) add(buyer int, came, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, admission{buyer, came, at})
}

// between returns how many were admitted in a span.
func (a *admissions) between(from, to time.Duration) (n int) {
	for _, x := range a.at {
		if x.at >= from && x.at < to {
			n++
		}
	}
	return n
}

// crowd sends buyers at a rate for a time to random gateways, and lets each ask until it is admitted, until patience
// ends or for at most so many polls.
func (f *fleet) crowd(t *testing.T, perSecond int, span time.Duration, share float64, until time.Duration) *admissions {
	t.Helper()
	out := new(admissions)
	began := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for i := range int(float64(perSecond) * span.Seconds()) {
		came := time.Duration(float64(i) / float64(perSecond) * float64(time.Second))
		leaves := random.Float64() >= share // it never comes again
		first := random.IntN(len(f.rooms))
		wg.Go(func() {
			b := buyer{principal: fmt.Sprint("buyer-", i)}
			time.Sleep(came + time.Duration(i%997)*time.Microsecond)
			for g := first; time.Since(began) < until; g++ {
				again := b.once(t, f.rooms[g%len(f.rooms)])
				if again == 0 {
					out.add(i, came, time.Since(began))
					return
				}
				if leaves {
					return
				}
				time.Sleep(again + time.Duration(i*7919%100_000)*time.Microsecond) // of the way
			}
		})
	}
	wg.Wait()
	return out
}

// TestRate: one, two and three gateways admit what the sale says in half a minute, to 1 %, when six times as many come;
// and never more in any span, but for what may be caught up.
func TestRate(t *testing.T) {
	for _, gateways := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(gateways), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate, warm, span = 80, 3 * time.Second, 30 * time.Second
				f := newFleet(gateways, settings(rate))
				a := f.crowd(t, 6*rate, warm+span, 1, warm+span)
				got := float64(a.between(warm, warm+span)) / (rate * span.Seconds())
				t.Logf("%.4f of the rate, %d calls of the store", got, f.store.calls.Load())
				if math.Abs(got-1) > 0.01 {
					t.Errorf("%.4f of the rate was admitted", got)
				}
				for from := time.Duration(0); from < warm+span; from += 250 * time.Millisecond {
					if n := a.between(from, from+time.Second); float64(n) > rate*1.61 {
						t.Errorf("%d were admitted in the second from %v", n, from)
					}
				}
			})
		})
	}
}

// TestOrder: among buyers who all come when they were told to, hardly one passes another by more than a second or two,
// and at two gateways as at one.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 200
		f := newFleet(2, settings(rate))
		a := f.crowd(t, 3*rate, 5*time.Second, 1, time.Minute)
		if len(a.at) != 15*rate {
			t.Fatalf("%d admitted", len(a.at))
		}
		slices.SortFunc(a.at, func(x, y admission) int { return int(x.at - y.at) })
		passed := 0 // by one who came later and was admitted more than 3 s before
		first := 0
		latest := make([]int, len(a.at)) // the highest number admitted up to each
		for i, x := range a.at {
			latest[i] = x.buyer
			if i > 0 {
				latest[i] = max(latest[i], latest[i-1])
			}
			for a.at[first].at < x.at-3*time.Second {
				first++
			}
			if first > 0 && latest[first-1] > x.buyer+rate/50 { // came at least 20 ms after
				passed++
			}
		}
		if passed > len(a.at)/100 {
			t.Errorf("%d of %d were passed by more than 3 s", passed, len(a.at))
		}
	})
}

// TestAbsent: of those who got a number many never come back. Their turns go to others, so that after some seconds the
// rate is admitted again.
func TestAbsent(t *testing.T) {
	for _, share := range []float64{0.8, 0.5, 0.25} {
		synctest.Test(t, func(t *testing.T) {
			const rate = 25
			f := newFleet(2, settings(rate))
			a := f.crowd(t, 12*rate, 15*time.Second, share, 50*time.Second)
			const from, to = 20 * time.Second, 50 * time.Second
			got := float64(a.between(from, to)) / (rate * (to - from).Seconds())
			if got < 0.93 || got > 1.02 {
				t.Errorf("%.0f %% come back: %.3f of the rate was admitted, %v", 100*share, got, a.between(0, to))
			}
		})
	}
}

// TestNobodyWaits: below the rate nobody waits, and the store is asked ten times a second and not for each request.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(1, settings(1000))
		a := f.crowd(t, 800, 10*time.Second, 1, time.Minute)
		for _, x := range a.at[:len(a.at)] {
			if x.at-x.came > 100*time.Millisecond {
				t.Fatalf("one waited for %v", x.at-x.came)
			}
		}
		if calls := f.store.calls.Load(); len(a.at) != 8000 || calls > 250 {
			t.Errorf("%d admitted with %d calls of the store", len(a.at), calls)
		}
	})
}

// TestSticky: who was admitted passes with its ticket at every gateway, without one at the same gateway, and only
// until the ticket expires; the ticket is no one else's.
func TestSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(2, settings(1))
		ann := buyer{principal: "ann"}
		if ann.once(t, f.rooms[0]) != 0 || ann.ticket == "" {
			t.Fatal("the first one was not admitted")
		}
		bob := buyer{principal: "bob", ticket: ann.ticket}
		if bob.once(t, f.rooms[1]) == 0 {
			t.Error("another principal passed with the ticket")
		}
		for range 5 {
			again := buyer{principal: "ann", ticket: ann.ticket}
			if again.once(t, f.rooms[1]) != 0 {
				t.Error("the ticket was of no use")
			}
		}
		without := buyer{principal: "ann"}
		if without.once(t, f.rooms[0]) != 0 || without.ticket != ann.ticket {
			t.Errorf("without its ticket it had to wait, or got the ticket %s", without.ticket)
		}
		time.Sleep(10 * time.Minute)
		waiter := buyer{principal: "cid"} // takes the one admission
		waiter.once(t, f.rooms[1])
		late := buyer{principal: "ann", ticket: ann.ticket}
		if late.once(t, f.rooms[1]) == 0 {
			t.Error("an expired ticket let it pass")
		}
		time.Sleep(time.Second) // the exchange under way ends
	})
}

// TestOnePlace: one principal has one place, however often it comes without its ticket.
func TestOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(1, settings(1))
		for i := range 5 {
			b := buyer{principal: fmt.Sprint("before-", i)}
			b.once(t, f.rooms[0])
		}
		bot := buyer{principal: "bot"}
		bot.once(t, f.rooms[0])
		place := bot.places[0]
		for range 1000 {
			bot.ticket = ""
			bot.once(t, f.rooms[0])
		}
		after := buyer{principal: "after"}
		after.once(t, f.rooms[0])
		if slices.Max(bot.places) > place || after.places[0] != place+1 {
			t.Errorf("places %d to %d, and %d for who came next; the first one was %d", slices.Min(bot.places),
				slices.Max(bot.places), after.places[0], place)
		}
		time.Sleep(time.Second)
	})
}

// admittedCounter counts admissions.
type admittedCounter struct{ n atomic.Int64 }

func (c *admittedCounter) Inc() { c.n.Add(1) }

// TestUsedTicket: the ticket by which one has waited is good for one admission, however often it is shown: shown again
// it takes none from the others.
func TestUsedTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := new(admittedCounter)
		r := waitingroom.New(settings(2), waitingroom.Options{
			Store:   waitingroommemory.New(time.Now),
			Metrics: waitingroom.Metrics{Admitted: counted},
		})
		for i := range 3 {
			b := buyer{principal: fmt.Sprint("before-", i)}
			b.once(t, r)
		}
		bot := buyer{principal: "bot"}
		used := ""
		for wait := bot.once(t, r); wait > 0; wait = bot.once(t, r) {
			used = bot.ticket
			time.Sleep(wait)
		}
		before := counted.n.Load()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				again := buyer{principal: "bot", ticket: used}
				if again.once(t, r) != 0 || again.ticket != bot.ticket {
					t.Error("it is not admitted any more, or by another ticket")
				}
			})
		}
		wg.Wait()
		if n := counted.n.Load() - before; n != 0 || used == "" {
			t.Errorf("%d further admissions by the ticket %q", n, used)
		}
		time.Sleep(time.Second)
	})
}

// TestOpening: before the room opens it says nothing; then all wait; at the opening those who waited are before those
// who come, in an order that is not that of their coming, at the rate.
func TestOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, waiting, late = 50, 400, 100
		s := settings(rate)
		s.OpensBefore, s.Opens = time.Minute, time.Now().Add(2*time.Minute)
		f := newFleet(2, s)
		if _, reply := f.rooms[0].Enter(time.Now(), exchange("ann", "")); reply != nil {
			t.Errorf("a minute too early: %d", reply.Status)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		out := new(admissions)
		var wg sync.WaitGroup
		for i := range waiting + late {
			wg.Go(func() {
				came := time.Duration(i) * 20 * time.Millisecond
				if i >= waiting {
					came = 61*time.Second + time.Duration(i)*time.Millisecond
				}
				time.Sleep(came)
				b := buyer{principal: fmt.Sprint("buyer-", i)}
				for again := b.once(t, f.rooms[i%2]); again != 0; again = b.once(t, f.rooms[i%2]) {
					time.Sleep(again)
				}
				out.add(i, came, time.Since(began))
			})
		}
		wg.Wait()
		slices.SortFunc(out.at, func(x, y admission) int { return int(x.at - y.at) })
		if first := out.at[0].at; first < time.Minute {
			t.Errorf("one was admitted %v before the opening", time.Minute-first)
		}
		if n := out.between(0, 64*time.Second); n < 100 || n > 4*rate+rate {
			t.Errorf("%d were admitted within 4 s", n)
		}
		early, sum := 0, 0.0
		for i, x := range out.at[:waiting] {
			if x.buyer < waiting {
				early++
				sum += (float64(i) - waiting/2) * (float64(x.buyer) - waiting/2)
			}
		}
		correlation := sum / (waiting * waiting * waiting / 12)
		if early < waiting*9/10 || math.Abs(correlation) > 0.2 {
			t.Errorf("%d of the first %d had waited; coming and admission correlate by %.2f", early, waiting,
				correlation)
		}
		time.Sleep(time.Second)
	})
}

// broken is a store that can fail.
type broken struct {
	waitingroom.Store
	fails atomic.Bool
}

func (b *broken) Exchange(ctx context.Context, sale string, r *waitingroom.Report) (waitingroom.Grant, error) {
	if b.fails.Load() {
		return waitingroom.Grant{}, errors.New("gone")
	}
	return b.Store.Exchange(ctx, sale, r)
}

// TestStoreGone: who was admitted passes, who waits keeps its place, and nobody else gets one; then all goes on.
func TestStoreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &broken{Store: waitingroommemory.New(time.Now)}
		r := waitingroom.New(settings(1), waitingroom.Options{Store: store})
		ann, bob, cid := buyer{principal: "ann"}, buyer{principal: "bob"}, buyer{principal: "cid"}
		ann.once(t, r)
		bob.once(t, r)
		cid.once(t, r)
		store.fails.Store(true)
		time.Sleep(20 * time.Second)
		if ann.once(t, r) != 0 {
			t.Error("who was admitted has to wait")
		}
		if again := cid.once(t, r); again == 0 || cid.places[1] > cid.places[0] {
			t.Errorf("places %v, come back after %v", cid.places, again)
		}
		_, reply := r.Enter(time.Now(), exchange("dan", ""))
		if reply == nil || reply.Reason != filters.StoreUnavailable || reply.Header.Get("Retry-After") == "" {
			t.Errorf("%+v", reply)
		}
		if !r.Status().Failing {
			t.Error("the status does not show it")
		}
		store.fails.Store(false)
		time.Sleep(time.Second)
		for again := bob.once(t, r); again != 0; again = bob.once(t, r) {
			time.Sleep(again)
		}
		time.Sleep(time.Second)
	})
}

// TestRestart: a gateway that lost all its memory, store included, learns from tickets how far the line was.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(1, settings(1))
		var all []*buyer
		for i := range 40 {
			all = append(all, &buyer{principal: fmt.Sprint("buyer-", i)})
			all[i].once(t, f.rooms[0])
		}
		before := all[39].places[0]
		f = newFleet(1, settings(1))
		all[39].once(t, f.rooms[0])
		time.Sleep(time.Second)
		newcomer := buyer{principal: "new"}
		if newcomer.once(t, f.rooms[0]) == 0 {
			t.Fatal("one passed those who wait")
		}
		if at := newcomer.places[0]; at < before-3 || at > before+3 { // the line has moved on by some
			t.Errorf("the place of one who comes is %d, behind the %d of the last one", at, before)
		}
		time.Sleep(time.Second)
	})
}

// TestReload: another rate keeps the queue; a sale that is put off keeps those who wait for it and no one else.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := settings(1)
		f := newFleet(1, s)
		last := buyer{principal: "last"}
		for i := range 50 {
			b := buyer{principal: fmt.Sprint("buyer-", i)}
			b.once(t, f.rooms[0])
		}
		last.once(t, f.rooms[0])
		s.Rate = 1000
		f.rooms[0].Configure(s)
		time.Sleep(time.Second)
		for range 3 {
			if again := last.once(t, f.rooms[0]); again == 0 {
				last.places = append(last.places, 0)
				break
			}
			time.Sleep(time.Second)
		}
		if last.places[0] < 45 || last.places[len(last.places)-1] != 0 {
			t.Errorf("places %v", last.places)
		}
		s.Opens, s.OpensBefore = time.Now().Add(time.Hour), 2*time.Hour
		f.rooms[0].Configure(s)
		if last.once(t, f.rooms[0]) == 0 {
			t.Error("an admission to the sale before let one into the next")
		}
		time.Sleep(time.Second)
	})
}

// TestSecretOfTheStore: without a secret of its own the room asks the store for one until it answers.
func TestSecretOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, asked := settings(1), 0
		s.Secret = nil
		r := waitingroom.New(s, waitingroom.Options{
			Store: waitingroommemory.New(time.Now), Secret: func(context.Context) ([]byte, error) {
				if asked++; asked == 1 {
					return nil, errors.New("gone")
				}
				return []byte("the secret of the store"), nil
			},
		})
		_, reply := r.Enter(time.Now(), exchange("ann", ""))
		if reply == nil || reply.Reason != filters.StoreUnavailable {
			t.Errorf("%+v", reply)
		}
		for i := range 10 {
			b := buyer{principal: fmt.Sprint("buyer-", i)}
			b.once(t, r)
		}
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(time.Second)
	})
}

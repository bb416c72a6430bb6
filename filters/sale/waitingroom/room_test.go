package waitingroom_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
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
	x.Method, x.Scheme, x.Host, x.Path, x.Principal, x.Ticket = "POST", "https", "shop.example", "/checkout", principal, ticket
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
	until, reply := r.Enter(time.Now(), x)
	if reply == nil {
		if until != 0 {
			r.Stamp(x, until)
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
func number(body []byte, name string) (int, bool) {
	_, rest, ok := cutString(string(body), `"`+name+`":`)
	n := 0
	if !ok || rest == "" || rest[0] < '0' || rest[0] > '9' {
		return 0, false
	}
	for i := 0; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
		n = n*10 + int(rest[i]-'0')
	}
	return n, true
}

func cutString(s, sep string) (before, after string, found bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if s[i:i+len(sep)] == sep {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
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

// TestRate: one, two and three gateways admit what the sale says in ten seconds, to 1 %, when ten times as many come;
// and never more in any span, but for what may be caught up.
func TestRate(t *testing.T) {
	for _, gateways := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(gateways), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate, warm, span = 200, 3 * time.Second, 10 * time.Second
				f := newFleet(gateways, settings(rate))
				a := f.crowd(t, 10*rate, warm+span, 1, warm+span)
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

// TestOrder: who comes first is admitted first, but for the time that a grant is used.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(2, settings(200))
		a := f.crowd(t, 600, 5*time.Second, 1, time.Minute)
		slices.SortFunc(a.at, func(x, y admission) int { return int(x.at - y.at) })
		var worst, total time.Duration
		for i, x := range a.at {
			late := x.at - time.Duration(float64(x.buyer)/200*float64(time.Second)) // against a perfect queue
			worst, total = max(worst, late.Abs()), total+late.Abs()
			_ = i
		}
		t.Logf("%d of 3000 admitted, off by %v at most, %v on average", len(a.at), worst, total/time.Duration(len(a.at)))
	})
}

// TestAbsent: half of those who got a number never come back; their turns go to others.
func TestAbsent(t *testing.T) {
	for _, share := range []float64{0.8, 0.5, 0.25} {
		synctest.Test(t, func(t *testing.T) {
			const rate, span = 50, 60 * time.Second
			f := newFleet(2, settings(rate))
			a := f.crowd(t, 20*rate, 15*time.Second, share, span)
			for s := 0; s < 60; s += 5 {
				t.Logf("share %.2f second %d: %d", share, s, a.between(time.Duration(s)*time.Second, time.Duration(s+5)*time.Second)/5)
			}
		})
	}
}

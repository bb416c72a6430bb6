package transaction

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

func inBubble(t *testing.T, s Settings, f func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sc := newScene(t, s)
		f(t, sc)
		sc.wait(t)
	})
}

const (
	bothTried     = "/a/try /b/try"
	bothConfirmed = bothTried + " /b/confirm /a/confirm"
)

// TestTCCWithLostMessages: whichever request or response is lost, everything is done once, the submit is sent once, and
// what the client reads is what has become of it.
func TestTCCWithLostMessages(t *testing.T) {
	for _, c := range []struct {
		name      string
		lose      map[string]lost // the first request of each operation
		bRefuses  bool
		status    int
		calls     string
		operation string // how often the coordinator took it
		took      int
	}{
		{name: "nothing", status: 200, operation: "submit", took: 1},
		{name: "prepare", lose: map[string]lost{"prepare": requestLost}, status: 200, operation: "prepare", took: 1},
		{name: "its response", lose: map[string]lost{"prepare": responseLost}, status: 200, operation: "prepare", took: 2},
		{name: "register", lose: map[string]lost{"registerBranch": requestLost}, status: 200, operation: "submit", took: 1},
		{name: "its response", lose: map[string]lost{"registerBranch": responseLost}, status: 200,
			operation: "registerBranch", took: 3}, // a, a's confirm, b: none of them twice
		{name: "the response to the submit", lose: map[string]lost{"submit": responseLost}, status: 200,
			operation: "submit", took: 1},
		{name: "the submit", lose: map[string]lost{"submit": requestLost}, status: 409,
			calls: bothTried + " /b/cancel /a/cancel", operation: "submit", took: 0},
		{name: "the abort", lose: map[string]lost{"abort": requestLost}, bRefuses: true, status: 409,
			calls: bothTried + " /a/cancel", operation: "abort", took: 1},
		{name: "the response to the abort", lose: map[string]lost{"abort": responseLost}, bRefuses: true, status: 409,
			calls: bothTried + " /a/cancel", operation: "abort", took: 2}, // an abort may come twice
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
				s.dtm.lose = func(operation string, n int) lost {
					if n == 1 {
						return c.lose[operation]
					}
					return nothingLost
				}
				if c.bRefuses {
					s.responds("/b/try", 402)
				}
				r := s.checkout(t, "k", `{"qty":1}`)
				if r.Status == 202 { // the coordinator has to end it
					s.dtm.timeout(idOf(t, r))
					r = s.checkout(t, "k", `{"qty":1}`)
				}
				want := c.calls
				if want == "" {
					want = bothConfirmed
				}
				got := s.calls()
				if r.Status != c.status || got != want && sorted(got) != sorted(want) {
					t.Errorf("%d %s; calls %s, want %s", r.Status, r.Body, got, want)
				}
				if took := s.dtm.requests(c.operation); took != c.took {
					t.Errorf("the coordinator took %d of %s, want %d", took, c.operation, c.took)
				}
				if s.dtm.seen["submit"] > 1 {
					t.Errorf("%d submits were sent", s.dtm.seen["submit"])
				}
				if again := s.checkout(t, "k", `{"qty":1}`); string(again.Body) != string(r.Body) || s.calls() != got {
					t.Errorf("again: %s; calls %s", again.Body, s.calls())
				}
			})
		})
	}
}

func sorted(calls string) string {
	list := strings.Fields(calls)
	for i := range list {
		for j := i; j > 0 && list[j] < list[j-1]; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return strings.Join(list, " ")
}

// TestTCCWhoseGatewayDies: what another gateway with the same store does about it, together with the coordinator.
func TestTCCWhoseGatewayDies(t *testing.T) {
	// prepared is a transaction of which the first gateway has done so much.
	prepared := func(t *testing.T, s *scene, steps int, called bool) (*manager, string) {
		t.Helper()
		g := gid('d')
		s.delegate(t, g)
		x := new(filters.Exchange)
		x.Begin(t.Context(), func(int64) ([]byte, error) { return []byte(`{"qty":1}`), nil })
		x.Route, x.Principal, x.Logical.GID = "checkout", "ann", g
		ready, err := tccMode{}.render(t.Context(), NewExecutor(s.Bridge, *s.own), x)
		if err != nil {
			t.Fatal(err)
		}
		m := ready.(*manager)
		m.steps = make([]phaseStep, m.phase.size())
		if err := m.prepare(t.Context(), s.Bridge); err != nil {
			t.Fatal(err)
		}
		for i := range steps {
			if called || i < steps-1 {
				if p, reason := m.callStep(t.Context(), s.Bridge, i); p != done && p != refused {
					t.Fatal(p, reason)
				} else {
					m.set(i, p, reason)
				}
				continue
			}
			call, err := m.phase.call(i)
			if err != nil {
				t.Fatal(err)
			}
			if _, claimed, err := s.store.Claim(t.Context(), s.claimOf(&call)); !claimed || err != nil {
				t.Fatal(claimed, err)
			}
			if err := m.phase.claimed(t.Context(), s.Bridge, i); err != nil {
				t.Fatal(err)
			}
		}
		return m, g
	}
	t.Run("between register and try", func(t *testing.T) {
		inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
			m, g := prepared(t, s, 2, false)
			s.reopen(t)
			if state := s.dtm.timeout(g); state != "aborting" || s.calls() != "/a/try" {
				t.Errorf("%s; calls %s: the try may be under way", state, s.calls())
			}
			time.Sleep(time.Minute)
			if state := s.dtm.timeout(g); state != "failed" || s.calls() != "/a/try /b/cancel /a/cancel" {
				t.Errorf("%s; calls %s", state, s.calls())
			}
			// The first gateway was not dead, only slow.
			call, err := m.phase.call(1)
			registered := true
			if err != nil {
				t.Fatal(err)
			}
			if p, _ := m.attempt(t.Context(), s.Bridge, 1, &call, &registered); p != late {
				t.Errorf("a late try: %v", p)
			}
			if s.calls() != "/a/try /b/cancel /a/cancel" {
				t.Errorf("calls %s", s.calls())
			}
			v, found, err := s.Show(t.Context(), g)
			if err != nil || !found || v.State != Failed || len(v.Steps) != 2 || v.Steps[1].State != StepCompensated {
				t.Errorf("%+v, %v, %v", v, found, err)
			}
		})
	})
	t.Run("between the last try and the submit", func(t *testing.T) {
		inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
			_, g := prepared(t, s, 2, true)
			s.wait(t) // its ends are written
			s.reopen(t)
			v, _, err := s.Show(t.Context(), g)
			if err != nil || v.State != Pending {
				t.Fatal(v, err)
			}
			s.resumePrepared(t.Context(), &v)
			if s.dtm.requests("submit")+s.dtm.requests("abort") != 0 {
				t.Error("another gateway decided")
			}
			if state := s.dtm.timeout(g); state != "failed" || s.calls() != bothTried+" /b/cancel /a/cancel" {
				t.Errorf("%s; calls %s", state, s.calls())
			}
		})
	})
	t.Run("between the decision to abort and the abort", func(t *testing.T) {
		inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
			s.responds("/b/try", 402)
			m, g := prepared(t, s, 2, true)
			if _, err := s.decide(t.Context(), m, decidedAbort, 1); err != nil {
				t.Fatal(err)
			}
			s.wait(t)
			s.reopen(t)
			f := &followed{token: 7, route: "checkout", created: time.Now()}
			if _, err := s.reconcile(context.Background(), g, f); err != nil {
				t.Fatal(err)
			}
			if state := s.dtm.only(t).Status; state != "failed" || s.calls() != bothTried+" /a/cancel" {
				t.Errorf("%s; calls %s", state, s.calls())
			}
		})
	})
	t.Run("a second manager does not submit", func(t *testing.T) {
		inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
			m, _ := prepared(t, s, 2, true)
			m.finish(t.Context(), s.Bridge)
			s.reopen(t)
			m.finish(t.Context(), s.Bridge)
			if n := s.dtm.seen["submit"]; n != 1 || sorted(s.calls()) != sorted(bothConfirmed) {
				t.Errorf("%d submits; calls %s", n, s.calls())
			}
		})
	})
}

// TestTCCUnknownTries: they are made again with the next attempt, for as long as there is time; then the step is
// cancelled, also when it was refused at last.
func TestTCCUnknownTries(t *testing.T) {
	for name, c := range map[string]struct {
		try    []int
		status int
		calls  string
	}{
		"then done":    {[]int{0, 503, 200}, 200, "/a/try /b/try /b/try /b/try /b/confirm /a/confirm"},
		"then refused": {[]int{0, 402}, 409, "/a/try /b/try /b/try /b/cancel /a/cancel"},
		"refused":      {[]int{402}, 409, "/a/try /b/try /a/cancel"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
				s.responds("/b/try", c.try...)
				r := s.checkout(t, "k", `{"qty":1}`)
				if r.Status != c.status || s.calls() != c.calls && sorted(s.calls()) != sorted(c.calls) {
					t.Errorf("%d %s; calls %s, want %s", r.Status, r.Body, s.calls(), c.calls)
				}
			})
		})
	}
	t.Run("for ever", func(t *testing.T) {
		own := tccSettings()
		own.Wait, own.Timeout = 2*time.Minute, 30*time.Second
		inBubble(t, own, func(t *testing.T, s *scene) {
			s.responds("/b/try", 0)
			begun := time.Now()
			r := s.checkout(t, "k", `{"qty":1}`)
			if r.Status != 409 || !strings.Contains(string(r.Body), "not done in time") ||
				time.Since(begun) > 45*time.Second || strings.Count(s.calls(), "/b/cancel") != 1 {
				t.Errorf("%d %s after %v; calls %s", r.Status, r.Body, time.Since(begun), s.calls())
			}
		})
	})
}

// TestTCCResponsesThatDoNotFit: the step that they are of is named, what was tried is cancelled, and nothing more is
// tried.
func TestTCCResponsesThatDoNotFit(t *testing.T) {
	for response, want := range map[string]struct{ step, reason string }{
		`{"id":"` + strings.Repeat("x", responseBytesMax) + `"}`: {"a",
			"its response, which other calls refer to, is longer"},
		`{"other":1}`:         {"a", "it needs steps.a.id, and the response has none"},
		`no JSON`:             {"a", "it needs steps.a.id, and the response has none"},
		`{"id":1,"id":2}`:     {"a", "the response that it needs can be read in more than one way"},
		`{"id":"a","x":null}`: {},
	} {
		inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
			s.plays["/a/try"] = func(int) (int, string) { return 200, response }
			r := s.checkout(t, "k", `{"qty":1}`)
			if want.step == "" {
				if r.Status != 200 {
					t.Errorf("%d %s", r.Status, r.Body)
				}
				return
			}
			if r.Status != 409 || !strings.Contains(string(r.Body), `"step":"`+want.step+`"`) ||
				!strings.Contains(string(r.Body), want.reason) || s.calls() != "/a/try /a/cancel" {
				t.Errorf("%.20q: %d %s; calls %s", response, r.Status, r.Body, s.calls())
			}
		})
	}
}

// TestTCCStopsWithTheGateway: a try that would be repeated is not waited for; what was tried is cancelled.
func TestTCCStopsWithTheGateway(t *testing.T) {
	inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
		s.responds("/b/try", 503)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }()
		time.AfterFunc(2*time.Second, stop)
		r := s.checkout(t, "k", `{"qty":1}`)
		if r.Status != 409 || !strings.HasSuffix(s.calls(), "/b/cancel /a/cancel") {
			t.Errorf("%d %s; calls %s", r.Status, r.Body, s.calls())
		}
	})
}

// TestTCCRegistersNothingWhenItsTimeEnds: the pass in which the coordinator finds the time over does not see a branch
// that is registered meanwhile, so it would never be cancelled. Its time runs from the first prepare that it got, also
// when that was acknowledged late.
func TestTCCRegistersNothingWhenItsTimeEnds(t *testing.T) {
	inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
		var created, last time.Time
		s.dtm.lose = func(operation string, n int) lost {
			switch {
			case operation == "prepare" && n == 1:
				created = time.Now()
				time.Sleep(5 * time.Second)
				return responseLost
			case operation == "registerBranch" && n > 1:
				last = time.Now()
				return requestLost
			}
			return nothingLost
		}
		r := s.checkout(t, "k", `{"qty":1}`)
		s.wait(t)
		if left := s.own.Timeout - last.Sub(created); left < 0 || left > 5*time.Second {
			t.Errorf("the last branch is registered %v before the time is over", left)
		}
		if v, _, err := s.Show(t.Context(), idOf(t, r)); err != nil || v.State != Failed {
			t.Errorf("%+v, %v; calls %s", v, err, s.calls())
		}
	})
}

// TestTCCRegistrationThatIsFoundTooLate: a branch of which only a query says that it is registered is not tried when
// its transaction has been rolled back meanwhile, and it with it.
func TestTCCRegistrationThatIsFoundTooLate(t *testing.T) {
	inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
		s.dtm.lose = func(operation string, n int) lost {
			switch registered := s.dtm.seen["registerBranch"]; {
			case operation == "registerBranch" && n == 1:
				return responseLost
			case operation == "registerBranch" && n == 2, operation == "query" && registered == 1:
				return requestLost
			}
			return nothingLost
		}
		time.AfterFunc(s.own.RetryEvery/2, func() { s.dtm.timeout(s.dtm.only(t).GID) })
		if r := s.checkout(t, "k", `{"qty":1}`); r.Status != 409 || s.calls() != "/a/cancel" {
			t.Errorf("%d %s; calls %s", r.Status, r.Body, s.calls())
		}
	})
}

// TestTCCDecisionWithoutAnAcknowledgement: the store has the decision to submit, and the gateway does not know that. It
// is its own all the same.
func TestTCCDecisionWithoutAnAcknowledgement(t *testing.T) {
	inBubble(t, tccSettings(), func(t *testing.T, s *scene) {
		s.store = &forgetfulStore{Store: s.store, of: "//" + string(decidedSubmit)}
		if r := s.checkout(t, "k", `{"qty":1}`); r.Status != 200 || s.dtm.requests("submit") != 1 {
			t.Errorf("%d %s; calls %s", r.Status, r.Body, s.calls())
		}
	})
}

// forgetfulStore does not acknowledge the first claim of a client's key that ends so.
type forgetfulStore struct {
	idempotency.Store
	of string
	n  atomic.Int64
}

func (s *forgetfulStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	rec, claimed, err := s.Store.Claim(ctx, c)
	if strings.HasSuffix(c.ClientKey, s.of) && s.n.Add(1) == 1 {
		return idempotency.Record{}, false, errCut
	}
	return rec, claimed, err
}

package transaction

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

func messageSettings(primary bool) Settings {
	call := func(path string) Call { return Call{Service: "s", Method: "POST", Path: parse(path)} }
	s := Settings{
		Mode: "message", Wait: 20 * time.Second, Timeout: time.Minute,
		RetryEvery: time.Second, RetryMax: 2 * time.Second,
		Steps: []Step{{Name: "x", Do: call("/x")}, {Name: "y", Do: call("/y")}},
	}
	if primary {
		s.Primary = &Primary{Do: call("/primary"), Query: call("/query/{gid}"), FailOn: []StatusRange{{402, 402}}}
		s.Primary.Query.Method = "GET"
	}
	return s
}

// TestMessageIsDeliveredUntilItIsDone: a 409 is no refusal, and what is delivered is not delivered again.
func TestMessageIsDeliveredUntilItIsDone(t *testing.T) {
	inBubble(t, messageSettings(false), func(t *testing.T, s *scene) {
		s.responds("/y", 409, 500, 200)
		r := s.checkout(t, "k", `{}`)
		if r.Status != 202 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
		g := idOf(t, r)
		for range 3 {
			time.Sleep(5 * time.Second)
			s.dtm.timeout(g)
		}
		again := s.checkout(t, "k", `{}`)
		if again.Status != 200 || s.calls() != "/y /y /y /x" || s.dtm.requests("submit") != 1 {
			t.Errorf("%d %s; calls %s", again.Status, again.Body, s.calls())
		}
	})
}

// TestPrimary: what becomes of a message when its primary, its query or a request to the coordinator fails.
func TestPrimary(t *testing.T) {
	for _, c := range []struct {
		name    string
		primary []int
		query   []int
		lose    string // the first request for it
		status  int
		calls   string
	}{
		{"done", []int{200}, nil, "", 200, "/primary /y /x"},
		{"refused", []int{402}, nil, "", 409, "/primary"},
		{"unknown, done", []int{0}, []int{204}, "", 200, "/primary /query /y /x"},
		{"unknown, not done", []int{500}, []int{404}, "", 409, "/primary /query"},
		{"unknown, not known, done", []int{404}, []int{500, 409, 200}, "", 200, "/primary /query /query /query /y /x"},
		{"done, and the submit is lost", []int{200}, nil, "submit", 200, "/primary /y /x"},
		{"refused, and the abort is lost", []int{402}, nil, "abort", 409, "/primary"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, messageSettings(true), func(t *testing.T, s *scene) {
				s.dtm.lose = func(operation string, n int) lost {
					if operation == c.lose && n == 1 {
						return requestLost
					}
					return nothingLost
				}
				s.responds("/primary", c.primary...)
				r := s.checkout(t, "k", `{}`)
				g := gidIn(t, s)
				if len(c.query) > 0 {
					s.responds("/query/"+g, c.query...)
				}
				for range 6 {
					time.Sleep(time.Minute)
					s.reopen(t) // whichever gateway the coordinator calls
					s.dtm.timeout(g)
				}
				if r.Status == 202 {
					r = s.checkout(t, "k", `{}`)
				}
				if got := strings.ReplaceAll(s.calls(), "/"+g, ""); r.Status != c.status || got != c.calls {
					t.Errorf("%d %s; calls %s, want %s", r.Status, r.Body, got, c.calls)
				}
				if s.dtm.seen["submit"] > 1 {
					t.Errorf("%d submits", s.dtm.seen["submit"])
				}
			})
		})
	}
}

func gidIn(t *testing.T, s *scene) string { return s.dtm.only(t).GID }

// TestAPrimaryAndItsQueryExcludeEachOther: the query is not asked while the primary is called; and once it has said
// that the primary is not done, the primary does not reach its service any more.
func TestAPrimaryAndItsQueryExcludeEachOther(t *testing.T) {
	inBubble(t, messageSettings(true), func(t *testing.T, s *scene) {
		g := gid('d')
		s.delegate(t, g)
		x := new(filters.Exchange)
		x.Begin(t.Context(), nil)
		x.Route, x.Principal, x.Logical.GID = "checkout", "ann", g
		ready, err := messageMode{}.render(t.Context(), NewExecutor(s.Bridge, *s.own), x)
		if err != nil {
			t.Fatal(err)
		}
		m := ready.(*manager)
		m.steps = make([]phaseStep, 1)
		if err := m.prepare(t.Context(), s.Bridge); err != nil {
			t.Fatal(err)
		}
		call, _ := m.phase.call(0)
		claim := s.claimOf(&call)
		if _, claimed, err := s.store.Claim(t.Context(), claim); !claimed || err != nil {
			t.Fatal(claimed, err)
		}
		s.responds("/query/"+g, 404)
		if state := s.dtm.timeout(g); state != "prepared" || s.calls() != "" {
			t.Errorf("while the primary is called: %s; calls %s", state, s.calls())
		}
		time.Sleep(time.Minute) // its gateway is gone
		if state := s.dtm.timeout(g); state != "failed" || s.calls() != "/query/"+g {
			t.Errorf("%s; calls %s", state, s.calls())
		}
		for _, registered := range []bool{false, true} {
			if p, _ := m.attempt(t.Context(), s.Bridge, 0, &call, &registered); p != refused {
				t.Errorf("a late call of the primary: %v", p)
			}
		}
		if s.calls() != "/query/"+g {
			t.Errorf("calls %s", s.calls())
		}
	})
}

// TestAMessageOutlivesTheStore: what is submitted is delivered also when nothing is known here any more.
func TestAMessageOutlivesTheStore(t *testing.T) {
	inBubble(t, messageSettings(true), func(t *testing.T, s *scene) {
		s.responds("/y", 500, 500, 200)
		r := s.checkout(t, "k", `{}`)
		lostSecret, err := s.signingKey(t.Context())
		if err != nil || r.Status != 202 {
			t.Fatal(err, r.Status)
		}
		g := idOf(t, r)
		s.Bridge = nil
		s.reopen(t)
		s.configured = lostSecret
		time.Sleep(time.Minute)
		s.dtm.timeout(g)
		time.Sleep(time.Minute)
		if state := s.dtm.timeout(g); state != "succeed" || s.calls() != "/primary /y /y /y /x" {
			t.Errorf("%s; calls %s", state, s.calls())
		}
	})
}

// TestAMessageThatWasNeverSubmitted leaves its key free: that may be the number of a payment, and there is no other
// one. A submit that arrives when it is too late delivers nothing, and does not stop the next one.
func TestAMessageThatWasNeverSubmitted(t *testing.T) {
	for _, late := range []bool{false, true} {
		inBubble(t, messageSettings(false), func(t *testing.T, s *scene) {
			var delayed []byte
			s.dtm.intercept = func(operation string, body []byte) lost {
				if operation == "submit" && delayed == nil {
					delayed = body
					return requestLost
				}
				return nothingLost
			}
			r := s.checkout(t, "payment-1", `{}`)
			first := idOf(t, r)
			if r.Status != 202 {
				t.Fatalf("%d %s", r.Status, r.Body)
			}
			v, _, err := s.Status(t.Context(), first, "checkout", "ann")
			if err != nil || v.State != Unknown {
				t.Fatal(v, err)
			}
			watched, watcher := make(chan View, 1), s.Bridge
			go func() { watched <- watcher.Await(t.Context(), v, WaitMax) }()
			s.reopen(t) // this gateway does not know who watches
			ctx, stop := context.WithCancel(t.Context())
			runner := s.Bridge
			go func() { _ = runner.Run(ctx) }()
			time.Sleep(neverSubmittedAfter + 10*time.Second)
			if v := <-watched; v.State != Failed {
				t.Errorf("whoever watches it reads %+v", v)
			}
			if late {
				s.dtm.serve(httptest.NewRecorder(), "submit", delayed, nil)
			}
			again := s.checkout(t, "payment-1", `{}`)
			if again.Status != 200 || idOf(t, again) == first || s.calls() != "/y /x" {
				t.Errorf("again: %d %s; calls %s", again.Status, again.Body, s.calls())
			}
			if late {
				s.dtm.timeout(first)
			}
			v, found, err := s.Status(t.Context(), first, "checkout", "ann")
			if err != nil || !found || v.State != Failed || len(v.Steps) != 2 || v.Steps[0].State != StepSkipped ||
				s.calls() != "/y /x" {
				t.Errorf("the first one: %+v, %v, %v; calls %s", v, found, err, s.calls())
			}
			if _, found, err := s.Status(t.Context(), first, "checkout", "eve"); found || err != nil {
				t.Errorf("somebody else sees it: %v", err)
			}
			stop()
		})
	}
}

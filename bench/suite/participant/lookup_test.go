package participant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

func testLookup(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	type step struct {
		lookup  bool
		attempt int
		status  int // of the effect
		want    int // of the answer; 0: abandoned, or not done
	}
	look := func(attempt, want int) step { return step{true, attempt, 0, want} }
	do := func(attempt, status, want int) step { return step{false, attempt, status, want} }
	for name, steps := range map[string][]step{
		"never came": {look(1, 0), look(1, 0), do(2, 201, 201), look(1, 201), look(2, 201)},
		"late":       {look(1, 0), do(1, 201, 0), do(2, 201, 201), do(1, 500, 201)},
		"late, again and again": {look(3, 0), do(1, 201, 0), do(3, 201, 0), look(2, 0), do(3, 201, 0),
			look(4, 0), do(4, 201, 0), do(5, 201, 201)},
		"done":    {do(1, 201, 201), look(1, 201), do(2, 500, 201)},
		"refused": {do(1, 402, 402), look(1, 0), do(1, 201, 0), do(2, 201, 201)},
		"refused, then asked of before": {look(1, 0), do(2, 402, 402), look(1, 0), do(2, 201, 402), look(2, 0),
			do(2, 201, 0), do(3, 201, 201)},
		"at fault": {do(1, 503, 503), look(1, 0), do(1, 201, 0), do(2, 429, 429), do(1, 201, 0),
			do(2, 201, 201)},
		"a later one is done for before": {do(2, 201, 201), look(1, 201)},
	} {
		t.Run(name, func(t *testing.T) {
			for i, s := range steps {
				if s.lookup {
					a, found, err := g.Lookup(t.Context(), keyed(name, s.attempt))
					if err != nil || found != (s.want != 0) || a.Status != s.want || found && string(a.Body) != name {
						t.Fatalf("step %d, lookup of attempt %d: %+v, %v, %v; want %d", i, s.attempt, a, found, err,
							s.want)
					}
					continue
				}
				a, err := g.Do(t.Context(), keyed(name, s.attempt), func(tx *sql.Tx) (participant.Response, error) {
					a, err := done(name)(tx)
					a.Status = s.status
					return a, err
				})
				if errors.Is(err, participant.ErrAbandoned) != (s.want == 0) || s.want != 0 && err != nil ||
					a.Status != s.want {
					t.Fatalf("step %d, attempt %d: %+v, %v; want %d", i, s.attempt, a, err, s.want)
				}
			}
			if n := effects(t, g.DB, name); n != 1 {
				t.Errorf("%d effects, want 1", n)
			}
		})
	}
}

// While an attempt runs nobody says "not done"; afterwards its end decides.
func testLookupRunning(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	for _, commits := range []bool{true, false} {
		name := fmt.Sprint("running ", commits)
		running, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var once sync.Once
		go func() {
			defer close(ended)
			_, err := g.Do(context.Background(), keyed(name, 1), func(tx *sql.Tx) (participant.Response, error) {
				a, err := done(name)(tx)
				once.Do(func() { close(running) })
				<-end
				if !commits {
					err = errors.Join(err, errSoldOut)
				}
				return a, err
			})
			if errors.Is(err, errSoldOut) == commits {
				t.Error(err)
			}
		}()
		<-running
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if b.dialect == participant.SQLite { // which waits in C for the one writer, and for longer than this
			cancel()
		}
		_, found, err := g.Lookup(ctx, keyed(name, 1))
		cancel()
		if err == nil {
			t.Errorf("found %v, while the attempt runs", found)
		}
		type answer struct {
			found bool
			err   error
		}
		answers := make(chan answer, 1)
		go func() {
			_, found, err := g.Lookup(context.Background(), keyed(name, 1))
			answers <- answer{found, err}
		}()
		close(end)
		<-ended
		if a := <-answers; a.err != nil || a.found != commits {
			t.Errorf("the attempt has ended, committed %v: %+v", commits, a)
		}
		if n := effects(t, g.DB, name); n != map[bool]int{true: 1}[commits] {
			t.Errorf("committed %v: %d effects", commits, n)
		}
	}
}

// A first attempt that comes at any time, two gateways that ask after it and one that goes on when
// it may: one effect, and everybody who is answered is answered the same.
func testLookupRace(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	for i := range 60 {
		name := fmt.Sprint("race", i)
		effect := func(attempt int) (participant.Response, error) {
			return g.Do(context.Background(), keyed(name, attempt), func(tx *sql.Tx) (participant.Response, error) {
				return participant.Response{Status: 201,
					Body: fmt.Appendf(nil, "%s by attempt %d", name, attempt)}, write(name)(tx)
			})
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		said := map[string]int{}
		note := func(s string) { mu.Lock(); said[s]++; mu.Unlock() }
		wg.Go(func() { // late
			switch a, err := effect(1); {
			case err == nil:
				note(string(a.Body))
			case !errors.Is(err, participant.ErrAbandoned):
				t.Error(err)
			}
		})
		free := make(chan bool, 2)
		for range 2 {
			wg.Go(func() {
				a, found, err := g.Lookup(context.Background(), keyed(name, 1))
				if err != nil {
					t.Error(err)
				}
				if found {
					note(string(a.Body))
				}
				free <- err == nil && !found
			})
		}
		wg.Go(func() { // of two that ask at the same time the gateway's store lets one go on
			may := <-free
			if !may {
				may = <-free
			}
			if !may {
				return
			}
			if a, err := effect(2); err != nil {
				t.Error(err)
			} else {
				note(string(a.Body))
			}
		})
		wg.Wait()
		if n := effects(t, g.DB, name); n != 1 || len(said) != 1 {
			t.Errorf("%d effects, answers %v; want 1 and one", n, said)
		}
	}
}

func testProbe(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect, LookupWait: time.Minute,
		Log: slog.New(slog.DiscardHandler)}
	impatient := *g
	impatient.LookupWait = 50 * time.Millisecond
	mux := http.NewServeMux()
	mux.Handle("GET /v1/orders/by-key/{key}", g.ProbeHandler())
	mux.Handle("GET /v1/orders/by-key", g.ProbeHandler())
	mux.Handle("GET /v1/orders/by-key/soon/{key}", impatient.ProbeHandler())
	ask := func(path, key, attempt string, status int, body string) http.Header {
		t.Helper()
		r := httptest.NewRequest("GET", "/v1/orders/by-key"+path, nil)
		for name, value := range map[string]string{participant.HeaderKey: key, participant.HeaderAttempt: attempt} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		g.Middleware(mux).ServeHTTP(w, r) // which keeps its hands off probes
		if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != body {
			t.Errorf("%s, key %q, attempt %q: %d %s; want %d %s", path, key, attempt, w.Code, got, status, body)
		}
		return w.Header()
	}
	ask("/k", "", "", 400, `{"reason":"key-invalid"}`)
	ask("/k", "other", "1", 400, `{"reason":"key-invalid"}`)
	ask("", "", "1", 400, `{"reason":"key-invalid"}`)
	ask("/k", "", "0", 400, `{"reason":"key-invalid"}`)
	ask("/k", "k", "1", 404, `{"reason":"not-executed"}`)
	ask("", "k", "1", 404, `{"reason":"not-executed"}`)
	r := httptest.NewRequest("POST", "/v1/orders", nil)
	r.Header.Set(participant.HeaderKey, "k")
	r.Header.Set(participant.HeaderAttempt, "1")
	post := g.Handler(func(tx *sql.Tx, r *http.Request) (participant.Response, error) {
		return participant.JSON(201, "made"), write("k")(tx)
	})
	w := httptest.NewRecorder()
	if post.ServeHTTP(w, r); w.Code != 409 || strings.TrimSpace(w.Body.String()) != `{"reason":"attempt-abandoned"}` {
		t.Errorf("late attempt: %d %s", w.Code, w.Body)
	}
	r.Header.Set(participant.HeaderAttempt, "2")
	w = httptest.NewRecorder()
	if post.ServeHTTP(w, r); w.Code != 201 {
		t.Errorf("next attempt: %d %s", w.Code, w.Body)
	}
	h := ask("/k", "k", "2", 200, `"made"`)
	if h.Get("Content-Type") != "application/json" || h.Get(participant.HeaderStatus) != "201" {
		t.Errorf("probe's header: %v", h)
	}
	if b.dialect == participant.SQLite { // where a lookup is stuck behind its one writer until the busy timeout
		return
	}
	_, err := g.Do(t.Context(), keyed("running", 1), func(tx *sql.Tx) (participant.Response, error) {
		ask("/soon/running", "running", "1", 409, `{"reason":"in-progress"}`)
		return done("running")(tx)
	})
	if err != nil {
		t.Error(err)
	}
	ask("/running", "running", "1", 200, "running")
}

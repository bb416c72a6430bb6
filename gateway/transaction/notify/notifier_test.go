package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

var secret = []byte("the secret of the hook")

type counter struct{ n atomic.Int64 }

func (c *counter) Inc() { c.n.Add(1) }

// world is a store, receivers and what gateways say; its receivers are asked by a round trip.
type world struct {
	store     idempotency.Store
	receivers map[string]Receiver // by route
	answer    func(r *http.Request, n int) (status int, err error)
	ended     map[string]bool // by gid, for a search
	metrics   Metrics
	log       bytes.Buffer

	mu    sync.Mutex
	posts []post
}

type post struct {
	at        time.Time
	url, body string
	header    http.Header
}

func newWorld() *world {
	return &world{
		store: idempotencymemory.New(nil), ended: map[string]bool{},
		receivers: map[string]Receiver{"checkout": {URL: "https://shop.example/hooks", Secret: secret}},
		answer:    func(*http.Request, int) (int, error) { return 200, nil },
		metrics:   Metrics{Delivered: &counter{}, Failed: &counter{}, GivenUp: &counter{}},
	}
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.posts = append(w.posts, post{time.Now(), r.URL.String(), string(body), r.Header.Clone()})
	n := len(w.posts)
	w.mu.Unlock()
	status, err := w.answer(r, n)
	if err != nil {
		return nil, err
	}
	h := http.Header{"Location": {"https://elsewhere.example/"}}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func (w *world) setEnded(gid string, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[gid] = ended
}

func (w *world) sent() []post {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.posts
}

// gateway starts one; stop ends it as a shutdown does.
func (w *world) gateway() (n *Notifier, stop func()) {
	n = New(Options{
		Store: w.store, Metrics: w.metrics, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		Receiver:  func(route string) (Receiver, bool) { r, ok := w.receivers[route]; return r, ok },
		Routes:    func() []string { return []string{"checkout", "other"} },
		Transport: func(bool) http.RoundTripper { return w },
		End: func(_ context.Context, _, gid string) ([]byte, bool, bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			ended, known := w.ended[gid]
			return []byte(`{"id":"` + gid + `","state":"failed"}`), ended, !known, nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	return n, func() { cancel(); <-done }
}

func (w *world) notices(t *testing.T) int {
	t.Helper()
	list, err := w.store.List(context.Background(), idempotency.Query{Route: noticeRoute("checkout")}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func end(t *testing.T, n *Notifier, route, gid string) {
	t.Helper()
	if err := n.Expect(context.Background(), route, "ann", gid); err != nil {
		t.Fatal(err)
	}
	n.Ended(context.Background(), route, gid, []byte(`{"id":"`+gid+`"}`))
}

// verify checks a signature as docs/transactions.md tells receivers to.
func verify(t *testing.T, p post) {
	t.Helper()
	at, sum, ok := strings.Cut(strings.TrimPrefix(p.header.Get("Sluice-Signature"), "t="), ",v1=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		t.Fatalf("signature %q", p.header.Get("Sluice-Signature"))
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(at + "." + p.body))
	if got, err := hex.DecodeString(sum); err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		t.Errorf("signature %q of %q", p.header.Get("Sluice-Signature"), p.body)
	}
}

func TestDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		n, stop := w.gateway()
		_, stopOther := w.gateway()
		end(t, n, "checkout", "g1")
		n.Ended(t.Context(), "checkout", "g1", []byte(`{"id":"g1"}`)) // by whoever else saw it
		time.Sleep(2 * searchEvery)
		posts := w.sent()
		if len(posts) != 1 || posts[0].body != `{"id":"g1"}` || posts[0].url != "https://shop.example/hooks" ||
			posts[0].header.Get("Sluice-Transaction") != "g1" || posts[0].header.Get("Sluice-Attempt") != "1" ||
			posts[0].header.Get("Content-Type") != "application/json" {
			t.Fatalf("%+v", posts)
		}
		verify(t, posts[0])
		if n.Pending() != 0 || w.notices(t) != 0 || w.metrics.Delivered.(*counter).n.Load() != 1 {
			t.Errorf("%d pending, %d notices", n.Pending(), w.notices(t))
		}
		end(t, n, "other", "g2") // has no receiver
		stop()
		stopOther()
		if len(w.sent()) != 1 {
			t.Errorf("%+v", w.sent())
		}
	})
}

// A fleet makes one attempt at a time, with growing delays that no gateway cuts short, and redirects are failures.
func TestRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.answer = func(_ *http.Request, n int) (int, error) {
			switch {
			case n > 12:
				return 204, nil
			case n == 1:
				return 307, nil
			case n == 2:
				return 0, errors.New("reset")
			}
			return 500, nil
		}
		var stops []func()
		var first *Notifier
		for range 3 {
			n, stop := w.gateway()
			first, stops = n, append(stops, stop)
		}
		end(t, first, "checkout", "g1")
		time.Sleep(4 * time.Hour)
		posts := w.sent()
		if len(posts) != 13 {
			t.Fatalf("%d attempts", len(posts))
		}
		for i := range posts {
			numbered(t, posts[i], i+1)
			if i == 0 {
				continue
			}
			most := min(delayFirst<<(i-1), delayMax)
			if d := posts[i].at.Sub(posts[i-1].at); d < most/2 || d > most+2*time.Second {
				t.Errorf("attempt %d comes %v after the one before, want %v to %v", i+1, d, most/2, most)
			}
		}
		if w.notices(t) != 0 || w.metrics.Failed.(*counter).n.Load() != 12 {
			t.Errorf("%d notices, %d failed", w.notices(t), w.metrics.Failed.(*counter).n.Load())
		}
		for _, stop := range stops {
			stop()
		}
	})
}

// numbered checks what an attempt says of itself.
func numbered(t *testing.T, p post, attempt int) {
	t.Helper()
	if got := p.header.Get("Sluice-Attempt"); got != strconv.Itoa(attempt) {
		t.Errorf("attempt %d says that it is %s", attempt, got)
	}
	if !strings.HasPrefix(p.header.Get(SignatureHeader), fmt.Sprintf("t=%d,", p.at.Unix())) {
		t.Errorf("attempt %d is signed %s, at %d", attempt, p.header.Get(SignatureHeader), p.at.Unix())
	}
}

// A gateway that dies before the end, or before it has told it, leaves that to the others; what was never begun, and
// what runs, is not told.
func TestLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		n, stop := w.gateway()
		for _, gid := range []string{"ends", "runs", "never"} {
			if err := n.Expect(t.Context(), "checkout", "ann", gid); err != nil {
				t.Fatal(err)
			}
		}
		w.setEnded("ends", true)
		w.setEnded("runs", false)
		stop()
		if err := n.seal(t.Context(), "sealed", nil); err != nil { // without a notice it is nothing
			t.Fatal(err)
		}
		end(t, n, "checkout", "told-late")
		_, stop = w.gateway()
		time.Sleep(2 * searchEvery)
		got := map[string]bool{}
		for _, p := range w.sent() {
			got[p.header.Get("Sluice-Transaction")] = true
			if p.header.Get("Sluice-Transaction") == "ends" && p.body != `{"id":"ends","state":"failed"}` {
				t.Errorf("%s", p.body)
			}
		}
		if len(w.sent()) != 2 || !got["ends"] || !got["told-late"] {
			t.Errorf("%v", got)
		}
		if w.notices(t) != 1 {
			t.Errorf("%d notices, want that of what runs", w.notices(t))
		}
		time.Sleep(3 * life) // its notice does not expire
		w.setEnded("runs", true)
		time.Sleep(2 * searchEvery)
		if len(w.sent()) != 3 || w.notices(t) != 0 {
			t.Errorf("%d told, %d notices", len(w.sent()), w.notices(t))
		}
		stop()
	})
}

func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.answer = func(*http.Request, int) (int, error) { return 503, nil }
		n, stop := w.gateway()
		end(t, n, "checkout", "g1")
		time.Sleep(23 * time.Hour)
		if w.notices(t) != 1 || w.metrics.GivenUp.(*counter).n.Load() != 0 {
			t.Error("given up before its time")
		}
		time.Sleep(3 * time.Hour)
		if w.notices(t) != 0 || n.Pending() != 0 || w.metrics.GivenUp.(*counter).n.Load() != 1 {
			t.Errorf("%d notices, %d pending", w.notices(t), n.Pending())
		}
		stop()
		if said := w.log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "gid=g1") ||
			strings.Contains(said, string(secret)) || strings.Contains(said, "/hooks") {
			t.Error(said)
		}
	})
}

// One receiver that hangs has its own attempts at once and no more; the others' are sent.
func TestReceiverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.receivers["other"] = Receiver{URL: "https://other.example/", Secret: secret}
		var now, most int
		w.answer = func(r *http.Request, _ int) (int, error) {
			if r.URL.Host == "other.example" {
				return 200, nil
			}
			w.mu.Lock()
			now++
			most = max(most, now)
			w.mu.Unlock()
			<-r.Context().Done()
			w.mu.Lock()
			now--
			w.mu.Unlock()
			return 0, r.Context().Err()
		}
		n, stop := w.gateway()
		for i := range 100 {
			end(t, n, "checkout", fmt.Sprint("hangs", i))
		}
		time.Sleep(time.Second)
		for i := range 20 {
			end(t, n, "other", fmt.Sprint("good", i))
		}
		time.Sleep(3 * time.Second)
		if got := w.metrics.Delivered.(*counter).n.Load(); got != 20 {
			t.Errorf("%d of 20 are told while another receiver hangs", got)
		}
		if most != inFlightMax {
			t.Errorf("%d attempts at once at the one that hangs, want %d", most, inFlightMax)
		}
		stop()
	})
}

// A store that is away when the receiver has it: it may be told again, and ends.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		broken := &brokenStore{Store: w.store}
		w.store = broken
		w.answer = func(_ *http.Request, n int) (int, error) { broken.away.Store(n == 1); return 200, nil }
		n, stop := w.gateway()
		end(t, n, "checkout", "g1")
		time.Sleep(time.Minute)
		broken.away.Store(false)
		time.Sleep(2 * searchEvery)
		if n := len(w.sent()); n != 2 || w.notices(t) != 0 {
			t.Errorf("told %d times, %d notices", n, w.notices(t))
		}
		broken.away.Store(true)
		if n.Expect(t.Context(), "checkout", "ann", "g2") == nil {
			t.Error("a notice that the store did not take")
		}
		broken.away.Store(false)
		stop()
	})
}

type brokenStore struct {
	idempotency.Store
	away atomic.Bool
}

var errAway = errors.New("away")

func (s *brokenStore) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	if s.away.Load() {
		return idempotency.Record{}, false, errAway
	}
	return s.Store.Claim(ctx, c)
}

func (s *brokenStore) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if s.away.Load() {
		return errAway
	}
	return s.Store.Change(ctx, id, token, ch)
}

func (s *brokenStore) Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error) {
	if s.away.Load() {
		return false, errAway
	}
	return s.Store.Resolve(ctx, id, response, force)
}

// What is not configured any more is dropped.
func TestNotConfiguredAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.answer = func(*http.Request, int) (int, error) { return 500, nil }
		n, stop := w.gateway()
		end(t, n, "checkout", "g1")
		time.Sleep(time.Second)
		stop()
		delete(w.receivers, "checkout")
		before := len(w.sent())
		_, stop = w.gateway()
		time.Sleep(10 * time.Minute)
		stop()
		if len(w.sent()) != before || w.notices(t) != 0 {
			t.Errorf("%d attempts, %d notices", len(w.sent())-before, w.notices(t))
		}
	})
}

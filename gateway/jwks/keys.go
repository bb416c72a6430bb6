package jwks

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/identity"
)

const (
	refreshEvery   = 10 * time.Minute // after a success
	retryFirst     = time.Second      // after a failure; doubled with each
	retryMost      = time.Minute
	renewEvery     = time.Minute // for keys that are not known
	renewWaitLimit = time.Second // that a request waits for one
)

// Options is what [New] needs beside the URL.
type Options struct {
	// Transport does the fetches: [NewTransport]. nil: there are none, and the keys never come.
	Transport http.RoundTripper
	Logger    *slog.Logger
	Fetched   filters.Counter // fetches that brought keys
	Failed    filters.Counter // and that did not
}

// Keys are the keys at a URL. Make it with [New], start it with Start and end it with Close. It is
// safe for concurrent use.
type Keys struct {
	url     string
	options Options
	client  *http.Client
	current atomic.Pointer[identity.KeySet]

	start sync.Once
	end   context.CancelFunc // nil: it was closed before it was started
	done  chan struct{}      // closed when the goroutine has ended
	wake  chan struct{}      // has the goroutine fetch now

	mu       sync.Mutex    // guards what follows
	underWay chan struct{} // closed at the end of the fetch that runs or is about to; nil: none
	renewed  time.Time     // when Renew last had a fetch begin
	last     time.Time     // of the last fetch that brought keys
	fault    string        // of the last fetch; empty: it brought keys
}

var _ identity.Keys = (*Keys)(nil)

// New returns the keys at an https URL. Nothing is fetched before Start.
func New(url string, o Options) *Keys {
	k := &Keys{url: url, options: o, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if o.Transport != nil {
		k.client = newClient(o.Transport)
	}
	return k
}

// Start begins to fetch. A further call, and one after Close, does nothing.
func (k *Keys) Start() {
	if k.client == nil {
		return
	}
	k.start.Do(func() {
		ctx, end := context.WithCancel(context.Background())
		k.end = end
		k.mu.Lock()
		k.beginLocked()
		k.mu.Unlock()
		go k.run(ctx)
	})
}

// Close ends the fetches, one that is under way too, and waits for that. The keys in force stay, for
// requests that have them still.
func (k *Keys) Close() {
	k.start.Do(func() {})
	if k.end != nil {
		k.end()
		<-k.done
	}
}

// Current implements [identity.Keys].
func (k *Keys) Current() *identity.KeySet { return k.current.Load() }

// Symmetric implements [identity.Keys]: what is published is no secret.
func (k *Keys) Symmetric() bool { return false }

// Renew implements [identity.Keys]. It waits for at most a second.
func (k *Keys) Renew(ctx context.Context) *identity.KeySet {
	k.mu.Lock()
	ended := k.underWay
	if ended == nil && k.mayRenewLocked() {
		k.renewed = time.Now()
		ended = k.beginLocked()
	}
	k.mu.Unlock()
	if ended == nil {
		return k.current.Load()
	}
	limit := time.NewTimer(renewWaitLimit)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
	case <-ctx.Done():
	case <-k.done:
	}
	return k.current.Load()
}

// mayRenewLocked reports whether a key that is not known may have a fetch begin. Without any keys the
// goroutine tries often enough by itself.
func (k *Keys) mayRenewLocked() bool {
	return k.current.Load() != nil && (k.renewed.IsZero() || time.Since(k.renewed) >= renewEvery)
}

// beginLocked has the goroutine fetch and returns what is closed at the end of that.
func (k *Keys) beginLocked() chan struct{} {
	if k.underWay == nil {
		k.underWay = make(chan struct{})
		k.wake <- struct{}{} // does not block: what was in it has been taken when the fetch before began
	}
	return k.underWay
}

// run fetches until Close.
func (k *Keys) run(ctx context.Context) {
	defer close(k.done)
	next := time.NewTimer(refreshEvery)
	defer next.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-next.C:
			k.mu.Lock()
			k.beginLocked() // so that requests wait for it
			k.mu.Unlock()
			continue
		}
		if k.refresh(ctx) {
			failures = 0
		} else {
			failures++
		}
		next.Reset(untilNext(failures))
	}
}

// untilNext is the time to the next fetch after so many failures in a row.
func untilNext(failures int) time.Duration {
	wait := refreshEvery
	if failures > 0 {
		wait = min(retryFirst<<min(failures-1, 10), retryMost)
	}
	return wait - rand.N(wait/10)
}

// refresh fetches once and reports whether there are keys of it.
func (k *Keys) refresh(ctx context.Context) bool {
	set, err := k.keys(ctx)
	if ctx.Err() != nil { // closed: nobody asks any more
		return false
	}
	if set != nil {
		k.current.Store(set)
	}
	k.mu.Lock()
	news := k.fault != "" || k.last.IsZero()
	if k.fault = ""; set != nil {
		k.last = time.Now()
	} else {
		k.fault = err.Error()
	}
	close(k.underWay)
	k.underWay = nil
	k.mu.Unlock()
	k.report(set, err, news)
	return set != nil
}

// keys fetches a set. The error beside a set names keys that were passed over.
func (k *Keys) keys(ctx context.Context) (*identity.KeySet, error) {
	body, err := k.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return identity.ParsePublished(body)
}

// report logs and counts what came of a fetch. Fetches are too rare to fill a log.
func (k *Keys) report(set *identity.KeySet, err error, news bool) {
	l := k.options.Logger.With("url", Shown(k.url))
	if set == nil {
		k.options.Failed.Inc()
		state := "the last good ones stay"
		if k.current.Load() == nil {
			state = "there are none yet, so every token is refused with 401"
		}
		l.Warn("the keys of tokens could not be fetched: "+state, "error", err)
		return
	}
	k.options.Fetched.Inc()
	if err != nil {
		l.Warn("keys of tokens are malformed and were passed over", "error", err)
	}
	if news {
		l.Info("the keys of tokens were fetched", "keys", set.Len())
	}
}

// Status is how the keys at a URL are.
type Status struct {
	URL     string     `json:"url"` // without its query
	Keys    int        `json:"keys"`
	Fetched *time.Time `json:"fetched,omitempty"` // when the keys in force were fetched last; null: never
	Fault   string     `json:"fault,omitempty"`   // of the last fetch, where it failed
}

// Status returns how the keys are.
func (k *Keys) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := Status{URL: Shown(k.url), Fault: k.fault}
	if set := k.current.Load(); set != nil {
		at := k.last.UTC().Truncate(time.Second)
		s.Keys, s.Fetched = set.Len(), &at
	}
	return s
}

package upstream

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// failuresDown is how many checks in a row have to fail before an endpoint is left out: one is a
// lost packet. One success brings it back.
const failuresDown = 2

// watch is a goroutine that checks an endpoint.
type watch struct {
	stop context.CancelFunc
	done chan struct{}
}

// watchLocked starts and ends checks, for a configuration that has taken the place of the old one.
func (s *Service) watchLocked(old, next *configuration, removed []*endpoint) {
	health := next.settings.Health
	stale := removed
	switch {
	case !sameHealth(old.settings.Health, health):
		stale = old.endpoints
	case !sameTLS(&old.settings, &next.settings): // what failed for the old TLS is checked again at once
		stale = slices.DeleteFunc(slices.Clone(old.endpoints), func(e *endpoint) bool {
			return !e.TLS && !e.removed.Load()
		})
	}
	endWatches(stale)
	for _, e := range stale {
		switch {
		case health == nil:
			e.unpublish()
			e.down.Store(false) // no check would bring it back
		case slices.Contains(removed, e) && !has(next.endpoints, e.address):
			e.unpublish()
		}
	}
	for _, e := range next.endpoints {
		if health != nil && e.watch == nil {
			e.watch = startWatch(e, *health)
		}
	}
}

// has reports whether one of the endpoints has the address, under which their health is published.
func has(endpoints []*endpoint, address string) bool {
	return slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.address == address })
}

func startWatch(e *endpoint, h Health) *watch {
	ctx, stop := context.WithCancel(context.Background())
	w := &watch{stop, make(chan struct{})}
	go func() {
		defer close(w.done)
		e.checkUntil(ctx, h)
	}()
	return w
}

// endWatches returns when the endpoints are checked no more. A check that is under way is given up.
func endWatches(endpoints []*endpoint) {
	for _, e := range endpoints {
		if e.watch != nil {
			e.watch.stop()
		}
	}
	for _, e := range endpoints {
		if e.watch != nil {
			<-e.watch.done
			e.watch = nil
		}
	}
}

// unpublish tells the metrics that the endpoint, which is checked no more, has no health.
func (e *endpoint) unpublish() {
	if e.published {
		e.published = false
		e.service.metrics.Unwatched(e.address)
	}
}

// checkUntil checks the endpoint until ctx ends. It goes on from the health that is known of it.
func (e *endpoint) checkUntil(ctx context.Context, h Health) {
	tick := time.NewTicker(h.Every)
	defer tick.Stop()
	for failures := 0; ; {
		err := e.check(ctx, h)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			failures = 0
			e.setHealth(true)
		case errors.Is(err, ErrOverloaded): // which says nothing of the endpoint
		default:
			e.passes.Store(false)
			if failures++; failures >= failuresDown || e.down.Load() {
				e.setHealth(false)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// setHealth takes what is known by now. Before the first success, or the second failure, nothing is:
// the endpoint is used, and nothing is said of it.
func (e *endpoint) setHealth(healthy bool) {
	e.passes.Store(healthy)
	if e.down.Swap(!healthy) == healthy || !e.published {
		e.published = true
		e.service.metrics.Health(e.address, healthy)
	}
}

// check sends one request of its own. Without an error the response is a success.
func (e *endpoint) check(ctx context.Context, h Health) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var x filters.Exchange
	x.Begin(ctx, nil)
	x.Method, x.Host, x.Peer = "GET", e.Host, netip.Addr{}
	x.Path, x.RawQuery, _ = strings.Cut(h.Path, "?")
	x.Inject.Add("User-Agent", "sluice-health")
	r, err := e.request(ctx, &x, h.Timeout)
	if err != nil {
		return err
	}
	defer r.Close()
	status, _, _ := r.Head()
	if _, err = io.Copy(io.Discard, io.LimitReader(r, 64<<10)); err == nil && status/100 != 2 {
		err = errNotHealthy
	}
	return err
}

var errNotHealthy = errors.New("the status is not 2xx")

// request sends a check, on a connection of its own but for cleartext HTTP/2.
func (e *endpoint) request(ctx context.Context, x *filters.Exchange, timeout time.Duration) (Response, error) {
	p, settings := e.pool.Load(), &e.service.current.Load().settings
	m := &message.Message{}
	if p.h2 != nil && p.tls == nil {
		t, err := p.h2.take(ctx, settings, time.Now(), settings.ConnectTimeout)
		if err != nil {
			return nil, err
		}
		r, _, err := p.h2.exchange(ctx, settings, t, x, m)
		return r, err
	}
	nc, err := p.connect(ctx, p.tls, nil, settings.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	if nc.protocol == "h2" {
		c, err := p.h2.begin(ctx, settings, nc)
		if err != nil {
			return nil, err
		}
		r, _, err := p.h2.exchange(ctx, settings, taken{two: c, own: true}, x, m)
		return r, err
	}
	c := http1.NewClient(nc.Conn, e.Host, func(c *http1.Client, _ bool) { c.Close() })
	r, err := c.Do(ctx, x, m, time.Now(), timeout)
	if err != nil {
		return nil, err
	}
	return r, nil
}

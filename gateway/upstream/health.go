package upstream

import (
	"context"
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
		case slices.Contains(removed, e) && !has(next.endpoints, e.Address):
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
	return slices.ContainsFunc(endpoints, func(e *endpoint) bool { return e.Address == address })
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
		e.service.metrics.Unwatched(e.Address)
	}
}

// checkUntil checks the endpoint until ctx ends. It goes on from the health that is known of it.
func (e *endpoint) checkUntil(ctx context.Context, h Health) {
	tick := time.NewTicker(h.Every)
	defer tick.Stop()
	for failures := 0; ; {
		healthy := e.check(ctx, h)
		if ctx.Err() != nil {
			return
		}
		if failures++; healthy {
			failures = 0
		}
		down := failures >= failuresDown || failures > 0 && e.down.Load()
		if e.down.Swap(down) != down || !e.published {
			e.published = true
			e.service.metrics.Health(e.Address, !down)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check sends one request of its own and reports whether the response is a success.
func (e *endpoint) check(ctx context.Context, h Health) bool {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var x filters.Exchange
	x.Begin(ctx, nil)
	x.Method, x.Host, x.Peer = "GET", e.Host, netip.Addr{}
	x.Path, x.RawQuery, _ = strings.Cut(h.Path, "?")
	x.Inject.Add("User-Agent", "sluice-health")
	r, err := e.request(ctx, &x, h.Timeout)
	if err != nil {
		return false
	}
	defer r.Close()
	status, _, _ := r.Head()
	_, err = io.Copy(io.Discard, io.LimitReader(r, 64<<10))
	return err == nil && status >= 200 && status <= 299
}

// request sends a check, over HTTP/1.1 on a connection of its own.
func (e *endpoint) request(ctx context.Context, x *filters.Exchange, timeout time.Duration) (Response, error) {
	p, settings := e.pool.Load(), &e.service.current.Load().settings
	if p.h2 != nil {
		return p.h2.exchange(ctx, settings, x, &message.Message{})
	}
	nc, err := p.dial(ctx, settings.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	c := http1.NewClient(nc, e.Host, func(c *http1.Client, _ bool) { c.Close() })
	r, err := c.Do(ctx, x, &message.Message{}, time.Now(), timeout)
	if err != nil {
		return nil, err
	}
	return r, nil
}

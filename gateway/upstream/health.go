package upstream

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Health is how the endpoints are asked how they are: GET Path, each Every, answered with 2xx within Timeout.
type Health struct {
	Path    string // with its query
	Every   time.Duration
	Timeout time.Duration
}

// failuresDown is how many checks in a row have to fail before an endpoint is left out: one is a lost packet. One good one brings it back.
const failuresDown = 2

// watchHealth checks until ctx ends.
func (e *endpoint) watchHealth(ctx context.Context, h Health) {
	tick := time.NewTicker(h.Every)
	defer tick.Stop()
	told := false
	defer func() {
		if told {
			e.service.metrics.Unwatched(e.Address)
		}
	}()
	for failures := 0; ; {
		healthy := e.check(ctx, h)
		if ctx.Err() != nil {
			return
		}
		if failures++; healthy {
			failures = 0
		}
		down := failures >= failuresDown || failures > 0 && e.down.Load()
		if e.down.Swap(down) != down || !told {
			told = true
			e.service.metrics.Health(e.Address, !down)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check asks once, on a connection of its own.
func (e *endpoint) check(ctx context.Context, h Health) bool {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var x filters.Exchange
	x.Begin(ctx, nil)
	x.Method, x.Host, x.Peer = "GET", e.Host, netip.Addr{}
	x.Path, x.RawQuery, _ = strings.Cut(h.Path, "?")
	x.Inject.Add("User-Agent", "sluice-health")
	a, err := e.ask(ctx, &x, h.Timeout)
	if err != nil {
		return false
	}
	defer a.Close()
	status, _, _ := a.Head()
	_, err = io.Copy(io.Discard, io.LimitReader(a, 64<<10))
	return err == nil && status >= 200 && status <= 299
}

func (e *endpoint) ask(ctx context.Context, x *filters.Exchange, timeout time.Duration) (Response, error) {
	if e.HTTP2 {
		return e.h2.exchange(ctx, x, &message.Message{})
	}
	nc, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := http1.NewClient(nc, e.Host, func(c *http1.Client, _ bool) { c.Close() })
	a, err := c.Do(ctx, x, &message.Message{}, time.Now(), timeout)
	if err != nil {
		return nil, err
	}
	return a, nil
}

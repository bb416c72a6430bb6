package gateway

import (
	"context"
	"time"
)

const (
	readyChecked = 20 * time.Millisecond // until it is said that the gateway is ready
	unreadyAfter = time.Second           // without which it is said what is waited for, and
	unreadyEvery = 30 * time.Second      // so often then
)

// sayReady logs that the gateway is ready when it is, as /readyz says, and what it waits for where that takes long. It
// ends then, or with ctx.
func (g *gateway) sayReady(ctx context.Context) error {
	t := time.NewTicker(readyChecked)
	defer t.Stop()
	next := time.Now().Add(unreadyAfter)
	for {
		why := g.Unready()
		switch now := time.Now(); {
		case g.draining.Load():
			return nil
		case why == "":
			a := &g.addresses
			g.Logger.Info("ready", "http", a.HTTP, "https", a.HTTPS, "admin", a.Admin, "probes", a.Probes,
				"branches", a.Branches, "envoy", a.Envoy)
			return nil
		case now.After(next):
			g.Logger.Warn("not ready yet", "waits_for", why)
			next = now.Add(unreadyEvery)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

package gateway

import (
	"context"
	"fmt"
	"time"
)

const (
	standingEvery = time.Second      // the service manager's line is looked at
	waitsFor      = time.Minute      // a start that waits for a control plane may take, from each time it is said
	waitingEvery  = 10 * time.Second // it is said
	stopMargin    = 10 * time.Second // for what comes after the drain: stores, files
)

// standing is how the gateway stands, in a line.
func (g *gateway) standing() string {
	g.mu.Lock()
	fault := g.lastFault
	g.mu.Unlock()
	switch why := g.Unready(); {
	case g.draining.Load():
		return "draining: no new connections, requests in flight finish"
	case fault != "":
		return "serving; the last configuration was refused: " + fault
	case why != "":
		return "serving, and not ready: " + why
	}
	return fmt.Sprintf("serving, configuration %s", g.engine.Load().cfg.Hash())
}

// tellManager keeps the service manager's line and its watchdog up to date until ctx ends, which is behind the drain.
// What it does for that takes the locks that requests and reloads take, so a gateway that is stuck in one of them is
// not said to be alive.
func (g *gateway) tellManager(ctx context.Context, s *servers) error {
	every, watchdog := standingEvery, g.Manager.Watchdog()
	if watchdog > 0 {
		every = min(every, watchdog)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	var alive time.Time
	for {
		status := g.standing()
		if s.clients != nil {
			s.open()
		}
		g.Manager.Status(status)
		if now := time.Now(); watchdog > 0 && now.Sub(alive) >= watchdog-every/2 {
			g.Manager.Alive()
			alive = now
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tellManager says that the start goes on, until ctx ends.
func (u *unconfigured) tellManager(ctx context.Context) {
	t := time.NewTicker(waitingEvery)
	defer t.Stop()
	for {
		u.Manager.Waiting("waiting: "+u.Unready(), waitsFor)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

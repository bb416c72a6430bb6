package transaction

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

const (
	// WaitMax bounds the wait parameter of the status resource.
	WaitMax        = 60 * time.Second
	eventKeepAlive = 15 * time.Second
)

// Status tells how a transaction stands. found is false for one that is not there, or not this principal's, or not this route's.
func (c *Bridge) Status(ctx context.Context, gid, route, principal string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := c.store.Get(ctx, recordOf(gid))
	if err != nil || !ok || rec.Route != route || rec.Principal != principal {
		return View{}, false, err
	}
	return c.stand(ctx, gid, rec)
}

// Show is [Coordinator.Status] for operators, who see every principal's.
func (c *Bridge) Show(ctx context.Context, gid string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := c.store.Get(ctx, recordOf(gid))
	if err != nil || !ok {
		return View{}, false, err
	}
	return c.stand(ctx, gid, rec)
}

// stand tells how the transaction of a record stands; found is false when the record is that of another gid by now.
func (c *Bridge) stand(ctx context.Context, gid string, rec idempotency.Record) (v View, found bool, err error) {
	if rec.GID != gid {
		return View{}, false, nil
	}
	unknown := View{ID: gid, State: Unknown, Steps: []StepView{}}
	switch rec.State {
	case idempotency.Answered:
		if v, ok := recorded(c.Codec, &rec); ok {
			return v, true, nil
		}
		return unknown, true, nil // an operator's word, not a transaction's
	case idempotency.Delegated:
		v, known, err := c.ask(ctx, gid)
		if err != nil {
			c.Logger.Warn("transaction: the coordinator was not reached for a status", "gid", gid, "error", err)
			return unknown, true, nil
		}
		if known {
			if v.State.Final() {
				if done, err := c.record(ctx, v, rec.Token); done && err == nil {
					c.unwatch(gid)
				}
			}
			return v, true, nil
		}
	}
	return unknown, true, nil
}

// Await asks until the transaction has ended, or wait is over, or ctx ends, and returns what it saw last.
func (c *Bridge) Await(ctx context.Context, v View, route, principal string, wait time.Duration) View {
	ctx, cancel := context.WithTimeout(ctx, min(wait, WaitMax))
	defer cancel()
	for pause := 20 * time.Millisecond; !v.State.Final() && sleep(ctx, pause); pause = min(2*pause, 500*time.Millisecond) {
		if next, found, err := c.Status(ctx, v.ID, route, principal); err == nil && found && ctx.Err() == nil {
			v = next
		}
	}
	return v
}

// Events writes the transaction's states as server-sent events (WHATWG HTML §9.2), one named "state" for each change, until
// it has ended or ctx has. The error is the client's: it has gone.
func (c *Bridge) Events(ctx context.Context, v View, route, principal string, w io.Writer, flush func()) error {
	var shown []byte
	spoke := time.Now()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if now := v.Encode(); !bytes.Equal(now, shown) {
			if _, err := w.Write([]byte("event: state\ndata: " + string(now) + "\n")); err != nil {
				return err
			}
			flush()
			shown, spoke, pause = now, time.Now(), 50*time.Millisecond
		}
		if v.State.Final() {
			return nil
		}
		if !sleep(ctx, pause) {
			return nil
		}
		if time.Since(spoke) > eventKeepAlive { // proxies cut silent streams off
			if _, err := io.WriteString(w, ": still "+string(v.State)+"\n\n"); err != nil {
				return err
			}
			flush()
			spoke = time.Now()
		}
		if next, found, err := c.Status(ctx, v.ID, route, principal); err == nil && found {
			v = next
		}
	}
}

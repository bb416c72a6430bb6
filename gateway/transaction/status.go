package transaction

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

const (
	// WaitMax bounds the wait parameter of the status resource.
	WaitMax        = 60 * time.Second
	eventKeepAlive = 15 * time.Second
)

// Status returns the state of a transaction. found is false for one that is not there, not this
// principal's, or not this route's. The error is the store's.
func (b *Bridge) Status(ctx context.Context, gid, route, principal string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	switch {
	case err != nil || ok && (rec.Route != route || rec.Principal != principal):
		return View{}, false, err
	case !ok || rec.GID != gid:
		return b.neverBegun(ctx, gid, route, principal)
	}
	return b.statusOf(ctx, gid, rec)
}

// Show is [Bridge.Status] for operators, who see every principal's.
func (b *Bridge) Show(ctx context.Context, gid string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	if err != nil || !ok || rec.GID != gid {
		return View{}, false, err
	}
	return b.statusOf(ctx, gid, rec)
}

// StateNow returns the state that a transaction has at the coordinator: unknown when it has no such transaction. The
// error is the coordinator's.
func (b *Bridge) StateNow(ctx context.Context, gid string) (State, error) {
	t, err := b.queryCoordinator(ctx, gid)
	switch {
	case errors.Is(err, sagaclient.ErrNotFound):
		return Unknown, nil
	case err != nil:
		return Unknown, err
	}
	return stateOf(t.Status), nil
}

// statusOf returns the state of a record's transaction.
func (b *Bridge) statusOf(ctx context.Context, gid string, rec idempotency.Record) (v View, found bool, err error) {
	defer func() { v.route = rec.Route }()
	unknown := newView(gid, Unknown)
	switch rec.State {
	case idempotency.Answered:
		if v, ok := recordedView(b.codec, &rec); ok {
			return v, true, nil
		}
		return unknown, true, nil // resolved by an operator
	case idempotency.Delegated:
		v, known, err := b.query(ctx, gid)
		if err != nil {
			b.logger.Warn("transaction: the coordinator was not reached for a status", "gid", gid, "error", err)
			return unknown, true, nil
		}
		if known {
			if v.State.Final() {
				if done, err := b.recordEnd(ctx, v, rec.Token); done && err == nil {
					b.unfollow(gid)
					b.tell(rec.Route, v)
				}
			}
			return v, true, nil
		}
	}
	return unknown, true, nil
}

// Await waits until the transaction has ended, or wait is over, or ctx ends, and returns the last known
// view. v is one of [Bridge.Status].
func (b *Bridge) Await(ctx context.Context, v View, wait time.Duration) View {
	if v.State.Final() || wait <= 0 {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, min(wait, WaitMax))
	defer cancel()
	w := b.watch(v)
	defer b.leave(w)
	for {
		v, changed := b.last(w)
		if v.State.Final() {
			return v
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v
		}
	}
}

// Events writes the transaction's states as server-sent events (WHATWG HTML §9.2), one named
// "state" for each change, until it or ctx has ended. v is one of [Bridge.Status]. The error is that
// of the client's connection.
func (b *Bridge) Events(ctx context.Context, v View, out io.Writer, flush func()) error {
	write := func(text string) error {
		_, err := io.WriteString(out, text)
		flush()
		return err
	}
	if err := write(event(&v)); err != nil || v.State.Final() {
		return err
	}
	w := b.watch(v)
	defer b.leave(w)
	keepAlive := time.NewTimer(eventKeepAlive) // proxies close streams that are silent
	defer keepAlive.Stop()
	for {
		now, changed := b.last(w)
		if !now.equal(&v) {
			v = now
			if err := write(event(&v)); err != nil || v.State.Final() {
				return err
			}
			keepAlive.Reset(eventKeepAlive)
		}
		select {
		case <-changed:
		case <-keepAlive.C:
			if err := write(": still " + string(v.State) + "\n\n"); err != nil {
				return err
			}
			keepAlive.Reset(eventKeepAlive)
		case <-ctx.Done():
			return nil
		}
	}
}

func event(v *View) string { return "event: state\ndata: " + string(v.Encode()) + "\n" }

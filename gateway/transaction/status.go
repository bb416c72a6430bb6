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

// Status returns the state of a transaction. found is false for one that is not there, not this
// principal's, or not this route's. The error is the store's.
func (b *Bridge) Status(ctx context.Context, gid, route, principal string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	if err != nil || !ok || rec.Route != route || rec.Principal != principal {
		return View{}, false, err
	}
	return b.statusOf(ctx, gid, rec)
}

// Show is [Bridge.Status] for operators, who see every principal's.
func (b *Bridge) Show(ctx context.Context, gid string) (v View, found bool, err error) {
	if !plausible(gid) {
		return View{}, false, nil
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	if err != nil || !ok {
		return View{}, false, err
	}
	return b.statusOf(ctx, gid, rec)
}

// statusOf returns the state of a record's transaction; found is false when the record is that of
// another gid by now.
func (b *Bridge) statusOf(ctx context.Context, gid string, rec idempotency.Record) (v View, found bool, err error) {
	if rec.GID != gid {
		return View{}, false, nil
	}
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
				}
			}
			return v, true, nil
		}
	}
	return unknown, true, nil
}

// Await queries the transaction until it has ended, or wait is over, or ctx ends, and returns the
// last known view.
func (b *Bridge) Await(ctx context.Context, v View, route, principal string, wait time.Duration) View {
	ctx, cancel := context.WithTimeout(ctx, min(wait, WaitMax))
	defer cancel()
	const first, most = 20 * time.Millisecond, 500 * time.Millisecond
	for pause := first; !v.State.Final() && sleep(ctx, pause); pause = min(2*pause, most) {
		if next, found, err := b.Status(ctx, v.ID, route, principal); err == nil && found && ctx.Err() == nil {
			v = next
		}
	}
	return v
}

// Events writes the transaction's states as server-sent events (WHATWG HTML §9.2), one named
// "state" for each change, until it or ctx has ended. The error is that of the client's connection.
func (b *Bridge) Events(ctx context.Context, v View, route, principal string, w io.Writer, flush func()) error {
	const first = 50 * time.Millisecond
	var written []byte // the last state
	last := time.Now() // when something was written
	for pause := first; ; pause = min(2*pause, time.Second) {
		if now := v.Encode(); !bytes.Equal(now, written) {
			if _, err := w.Write([]byte("event: state\ndata: " + string(now) + "\n")); err != nil {
				return err
			}
			flush()
			written, last, pause = now, time.Now(), first
		}
		if v.State.Final() {
			return nil
		}
		if !sleep(ctx, pause) {
			return nil
		}
		if time.Since(last) > eventKeepAlive { // proxies close streams that are silent
			if _, err := io.WriteString(w, ": still "+string(v.State)+"\n\n"); err != nil {
				return err
			}
			flush()
			last = time.Now()
		}
		if next, found, err := b.Status(ctx, v.ID, route, principal); err == nil && found {
			v = next
		}
	}
}

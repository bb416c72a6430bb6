package transaction

import (
	"context"
	"errors"
	"strings"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// newNotifier returns what tells receivers how transactions ended.
func (b *Bridge) newNotifier(o *Options) *notify.Notifier {
	return notify.New(notify.Options{
		Store: b.store, Codec: b.codec, Receiver: b.services.Notify, Routes: b.services.NotifyRoutes, End: b.endTold,
		Transport: o.NotifyTransport, Metrics: o.Metrics.Notify, Logger: b.logger,
	})
}

// tell has a receiver told how a transaction ended, if its route has one. The end is recorded, or known to the
// coordinator: what is not written here is found by a search.
func (b *Bridge) tell(route string, v View) {
	if _, ok := b.services.Notify(route); !ok {
		return
	}
	route = strings.Clone(route)
	b.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
		defer cancel()
		b.notifier.Ended(ctx, route, v.ID, v.Encode())
	})
}

// Untold returns how many ends of transactions are known here of which the receiver was not told.
func (b *Bridge) Untold() int { return b.notifier.Pending() }

// endTold returns the status resource of a transaction that has ended, for a notice that somebody left. lost: it was
// never begun.
func (b *Bridge) endTold(ctx context.Context, route, gid string) (body []byte, ended, lost bool, err error) {
	b.mu.Lock()
	runs := b.followed[gid] != nil
	b.mu.Unlock()
	if runs || !plausible(gid) {
		return nil, false, !plausible(gid), nil
	}
	rec, ok, err := b.store.Get(ctx, recordOf(gid))
	if err != nil {
		return nil, false, false, err
	}
	if ok && rec.GID == gid {
		if rec.State != idempotency.Answered {
			return nil, false, false, nil
		}
		v, ok := recordedView(b.codec, &rec)
		if !ok { // an operator has resolved it
			v = newView(gid, Unknown)
		}
		return v.Encode(), true, false, nil
	}
	v, never, err := b.neverBegun(ctx, gid, route, "")
	if err != nil || never {
		return v.Encode(), never, false, err
	}
	// The record has expired, or the request went no further than the notice.
	v, known, err := b.query(ctx, gid)
	if err != nil && !errors.Is(err, sagaclient.ErrNotFound) {
		return nil, false, false, err
	}
	if !known {
		return nil, false, true, nil
	}
	return v.Encode(), v.State.Final(), false, nil
}

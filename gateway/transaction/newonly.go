package transaction

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// newOnly is whether the coordinator refuses a saga whose gid it knows, as sluice-dtm does: then it need not be asked
// before. DTM itself would run it once more. The zero value is ready: that is not known yet.
type newOnly struct {
	offered atomic.Bool
	asked   atomic.Int64 // when the coordinator was asked last, Unix nanoseconds
}

// newOnlyEvery is how long a coordinator that is not sluice-dtm, or an older one, is taken for that.
const newOnlyEvery = time.Minute

// askedBelow is the wait of clients below which the coordinator is asked all the same: they would have their 202, for
// the transaction of before, when it refuses the gid.
const askedBelow = 250 * time.Millisecond

// coordinatorName begins the version that sluice-dtm says.
const coordinatorName = "sluice-dtm/"

// errStore is wrapped by errors that are the store's where others are the coordinator's.
var errStore = errors.New("transaction: store")

// refusesKnown reports whether the coordinator refuses a gid that it knows. What is not known yet is asked in the
// background, and the other way is taken until then, which every coordinator has.
func (b *Bridge) refusesKnown(now time.Time) bool {
	n := &b.newOnly
	if n.offered.Load() {
		return true
	}
	last := n.asked.Load()
	if now.UnixNano()-last >= int64(newOnlyEvery) && n.asked.CompareAndSwap(last, now.UnixNano()) {
		b.background.Go(b.askNewOnly)
	}
	return false
}

func (b *Bridge) askNewOnly() {
	ctx, cancel := context.WithTimeout(context.Background(), queryTimeout)
	defer cancel()
	version, err := b.client.Version(ctx)
	if err != nil {
		b.newOnly.asked.Store(time.Now().Add(time.Second - newOnlyEvery).UnixNano())
		return
	}
	b.newOnly.offered.Store(strings.HasPrefix(version, coordinatorName))
}

// submitSaga submits a saga, once. asked: the coordinator did not know its gid.
func (b *Bridge) submitSaga(ctx context.Context, s *sagaclient.Saga, asked bool) (done bool, err error) {
	if asked {
		return b.client.SubmitOnce(ctx, s)
	}
	done, err = b.client.SubmitNew(ctx, s)
	if !errors.Is(err, sagaclient.ErrNotOffered) {
		return done, err
	}
	// It is another coordinator by now.
	b.newOnly.offered.Store(false)
	b.newOnly.asked.Store(time.Now().UnixNano())
	_, err = b.queryCoordinator(ctx, s.GID)
	switch {
	case errors.Is(err, sagaclient.ErrNotFound):
		return b.client.SubmitOnce(ctx, s)
	case err == nil:
		err = &sagaclient.Error{Op: "submit", GID: s.GID, Kind: sagaclient.ErrKnown}
	default: // nothing was submitted
		err = &sagaclient.Error{Op: "submit", GID: s.GID, Kind: sagaclient.ErrCoordinatorDown, Err: err}
	}
	return false, err
}

// knownAlready is for a saga that was not submitted, since the coordinator knew its gid. Without a reply that one is
// this very request, which is followed then. Else it is one that is over: a key that was used before, so long ago that
// no record is left. Another gid is not taken now, for the record is delegated under this one, and may have been seen
// so; the gid is used up by a record of its first step, and the request comes again and takes the next one.
func (e *Executor) knownAlready(ctx context.Context, x *filters.Exchange) *filters.Reply {
	b, gid := e.bridge, x.Logical.GID
	steps := e.begins()
	use, err := b.useOf(ctx, gid, x.Logical.Claim.Claimed().TTL, steps)
	switch {
	case err != nil:
		return e.coordinatorUnavailable(x, err)
	case use == gidKnown:
		b.followsKnown(gid)
		return nil
	case use == gidUsed:
		of := &idempotency.Record{GID: gid, Route: x.Route, Principal: x.Principal}
		if _, err := b.ruleOutStep(ctx, of, firstSteps(steps)[0], opDo); err != nil {
			return e.storeUnavailable(x, fmt.Errorf("%w: %w", errStore, err))
		}
	}
	b.logger.Info("transaction: the key was used before, for a transaction that is over; the request comes again",
		"gid", gid)
	return filters.Refuse(filters.CoordinatorUnavailable, filters.Problem{
		Detail:     "This key was used before, and nothing was submitted now. Come back with the same key.",
		RetryAfter: time.Second,
	})
}

// followsKnown says that a record was lost or forgotten while the coordinator has the transaction.
func (b *Bridge) followsKnown(gid string) {
	b.logger.Warn("transaction: the coordinator knows it already; it is followed and not submitted", "gid", gid)
}

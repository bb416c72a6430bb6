package transaction

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// A gid is the ID of the record, and behind it a digest of the request's fingerprint. So it can be computed
// again from the request alone: when a store has lost the record of a transaction, its repeat still finds it
// at the coordinator. A key that is used for another request never meets the transaction of the one before.
// One that is used again for the same request, after its time, finds the first one at the coordinator and takes
// the next gid: that has a period of time and a count within it in the digest too, as the first one of a derived key
// has. The name of the deployment is
// in the digest, so that two that share a coordinator, and have the same routes and keys, never take the
// transaction of the other one for their own.
const (
	gidSuffix    = 8
	gidLength    = idempotency.IDLength + gidSuffix
	countMax     = 64 // transactions of one request in a period; each but the last has failed
	periodLength = time.Hour
)

// period numbers spans of time that are no shorter than a record lives, so that what the
// coordinator remembers is in this one or in the last.
func period(now time.Time, ttl time.Duration) int64 {
	return now.UnixNano() / int64(max(ttl, periodLength))
}

// firstPeriod is that of the first gid of a request: none, for a key that a client has chosen names one request for
// ever. A derived key comes again for another request, also when the coordinator and all records have forgotten
// the one before; the barriers of services never do, and would take what it asks for as done. So there it is
// a span of time in which the record of a called step does not expire.
func firstPeriod(request *filters.ClaimedRequest, now time.Time) int64 {
	if !request.Derived {
		return 0
	}
	return now.UnixNano() / int64(max(request.TTL, branchTTL))
}

// firstBefore is how much longer than a record lives after its end a transaction may have begun before.
const firstBefore = 10 * time.Minute

func gidOf(deployment, record string, fingerprint [32]byte, period int64, count byte) string {
	b := binary.BigEndian.AppendUint64(fingerprint[:], uint64(period))
	sum := sha256.Sum256(append(append(b, count), deployment...))
	return record + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:gidSuffix*5/8]))
}

// FirstGID returns the gid that a request of a deployment has at the coordinator, unless its key was
// used before.
func FirstGID(deployment, record string, request *filters.ClaimedRequest, now time.Time) string {
	return gidOf(deployment, record, request.Fingerprint, firstPeriod(request, now), 0)
}

// recordOf returns the ID of the record that a gid belongs to.
func recordOf(gid string) string { return gid[:idempotency.IDLength] }

// errGIDsUsedUp says that a request was tried too often with one key.
var errGIDsUsedUp = errors.New("transaction: too many transactions of one request")

// chooseGID finds the gid for a new claim. known says that the coordinator has it already and that
// it is this very request: one that still runs, or one that succeeded so lately that its record
// should still be there. One that failed did nothing, and one whose time is over is forgotten: the
// next gid is free for a new execution. A gid of which a step was ever called is not free, whatever
// the coordinator says.
//
// It is one query where the key was not used before, and one more for a derived key where a period has just begun.
// That is needed for a claim of which the record knows no earlier attempt too: a store may lose records, and a gid that
// is submitted twice runs twice. Without ask there is none for a gid of which no step was called: the coordinator
// itself refuses one that it knows ([Executor.knownAlready]). One of which a step was called may be this very request,
// whose record is lost: of a store in shards one may lose what another has kept.
func (b *Bridge) chooseGID(
	ctx context.Context, record string, request *filters.ClaimedRequest, steps []orderedStep, ask bool,
) (gid string, known bool, err error) {
	now := time.Now()
	gid = FirstGID(b.deployment, record, request, now)
	if before := FirstGID(b.deployment, record, request, now.Add(-request.TTL-firstBefore)); before != gid {
		if use, err := b.useOf(ctx, before, request.TTL, steps); err != nil || use == gidKnown {
			return before, true, err
		}
	}
	if !ask {
		if called, err := b.branchCalled(ctx, gid, firstSteps(steps)); err != nil || !called {
			return gid, false, err
		}
	}
	begun := make(chan error, 1) // meanwhile the store is asked
	called := false
	go func() {
		var err error
		called, err = b.branchCalled(ctx, gid, firstSteps(steps))
		begun <- err
	}()
	use, err := b.useOf(ctx, gid, request.TTL, steps)
	if err2 := <-begun; err == nil {
		err = err2
	}
	switch {
	case err != nil:
		return "", false, err
	case use == gidKnown:
		return gid, true, nil
	case use == gidFree && !called:
		return gid, false, nil
	}
	return b.nextGID(ctx, record, request, steps)
}

// nextGID finds the gid of a request whose key was used before.
func (b *Bridge) nextGID(ctx context.Context, record string, request *filters.ClaimedRequest, steps []orderedStep) (
	gid string, known bool, err error,
) {
	current := period(time.Now(), request.TTL)
	for _, p := range []int64{current - 1, current} {
		for count := range byte(countMax) {
			gid = gidOf(b.deployment, record, request.Fingerprint, p, count)
			use, err := b.useOf(ctx, gid, request.TTL, steps)
			if err != nil {
				return "", false, err
			}
			switch use {
			case gidKnown:
				return gid, true, nil
			case gidUsed:
				continue
			}
			called, err := b.branchCalled(ctx, gid, namesOf(steps))
			if err != nil {
				return "", false, err
			}
			if called {
				continue
			}
			if p == current {
				return gid, false, nil
			}
			break // the last period has no more
		}
	}
	return "", false, errGIDsUsedUp
}

// gidUse is what the coordinator has a gid for.
type gidUse uint8

const (
	gidFree  gidUse = iota
	gidKnown        // this request, as it runs or has lately ended
	gidUsed         // one that is over
)

// useOf says what a gid is used for. One of which all steps were ruled out is over, also when its submit came later.
func (b *Bridge) useOf(ctx context.Context, gid string, ttl time.Duration, steps []orderedStep) (gidUse, error) {
	t, err := b.queryCoordinator(ctx, gid)
	switch {
	case errors.Is(err, sagaclient.ErrNotFound):
		return gidFree, nil
	case err != nil:
		return gidFree, err
	case !t.Status.Ended(), t.Status == sagaclient.Succeeded && time.Since(t.UpdateTime) < ttl:
		if out, err := b.ruledOut(ctx, gid, "", namesOf(steps)); out || err != nil {
			return gidUsed, err
		}
		return gidKnown, nil
	}
	return gidUsed, nil
}

// firstSteps are the names of the steps that come after none: when none of them was called, none was.
func firstSteps(steps []orderedStep) (names []string) {
	for i := range steps {
		if len(steps[i].after) == 0 {
			names = append(names, steps[i].Name)
		}
	}
	return names
}

func namesOf(steps []orderedStep) (names []string) {
	for i := range steps {
		names = append(names, steps[i].Name)
	}
	return names
}

// plausible reports whether a text can be a gid; the coordinator is not asked for one that cannot.
func plausible(gid string) bool {
	if len(gid) != gidLength {
		return false
	}
	for i := range len(gid) {
		if c := gid[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'v') {
			return false
		}
	}
	return true
}

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

// A gid is the ID of the record, and behind it a digest of the request's fingerprint, of a period
// of time and of a count within it. So it can be computed again from the request alone: when a
// store has lost the record of a finished transaction, its repeat still finds it at the
// coordinator. And a key that is used again after its time, or for another request, never meets the
// transaction of the one before. The name of the deployment is in the digest, so that two that share
// a coordinator, and have the same routes and keys, never take the transaction of the other one for
// their own.
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

func gidOf(deployment, record string, fingerprint [32]byte, period int64, count byte) string {
	b := binary.BigEndian.AppendUint64(fingerprint[:], uint64(period))
	sum := sha256.Sum256(append(append(b, count), deployment...))
	return record + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:gidSuffix*5/8]))
}

// FirstGID returns the gid that a request of a deployment has at the coordinator, unless its key was
// used before.
func FirstGID(deployment, record string, fingerprint [32]byte, ttl time.Duration, now time.Time) string {
	return gidOf(deployment, record, fingerprint, period(now, ttl), 0)
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
func (b *Bridge) chooseGID(ctx context.Context, record string, request *filters.ClaimedRequest, steps []string) (
	gid string, known bool, err error,
) {
	now, ttl := time.Now(), request.TTL
	current := period(now, ttl)
	for _, p := range []int64{current - 1, current} {
		for count := range byte(countMax) {
			gid = gidOf(b.deployment, record, request.Fingerprint, p, count)
			t, err := b.queryCoordinator(ctx, gid)
			switch {
			case errors.Is(err, sagaclient.ErrNotFound):
				called, err := b.branchCalled(ctx, gid, steps)
				if err != nil {
					return "", false, err
				}
				if called {
					continue
				}
			case err != nil:
				return "", false, err
			case !t.Status.Ended(), t.Status == sagaclient.Succeeded && now.Sub(t.UpdateTime) < ttl:
				return gid, true, nil
			default:
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

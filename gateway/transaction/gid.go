package transaction

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// A gid is the name of the record, and behind it a digest of the request's fingerprint and of a generation. So it can be made again
// from the request alone: when a store has lost the record of a finished transaction, its repeat still finds it at the coordinator.
// And a key that is used again after its time, or for another request, never meets the transaction of the one before.
const (
	gidSuffix      = 8
	gidLength      = idempotency.IDLength + gidSuffix
	generationsMax = 32
)

func gidOf(record string, fingerprint [32]byte, generation byte) string {
	sum := sha256.Sum256(append(fingerprint[:], generation))
	return record + strings.ToLower(base32.HexEncoding.EncodeToString(sum[:gidSuffix*5/8]))
}

// FirstGID returns the gid that a request has at the coordinator, unless its key was used before.
func FirstGID(record string, fingerprint [32]byte) string { return gidOf(record, fingerprint, 0) }

// recordOf returns the name of the record that a gid belongs to.
func recordOf(gid string) string { return gid[:idempotency.IDLength] }

var errGenerations = errors.New("transaction: the key has been used too often for the coordinator's memory")

// choose finds the gid for a new claim. known says that the coordinator has it already and that it is this very request: one that still runs,
// or one that succeeded so lately that its record should still be there. One that failed did nothing, and one whose time is over
// is forgotten: the next generation is free for a new execution.
func (c *Coordinator) choose(ctx context.Context, record string, fingerprint [32]byte, ttl time.Duration) (gid string, known bool, err error) {
	for generation := range byte(generationsMax) {
		gid = gidOf(record, fingerprint, generation)
		t, err := c.query(ctx, gid)
		switch {
		case errors.Is(err, sagaclient.ErrNotFound):
			return gid, false, nil
		case err != nil:
			return "", false, err
		case !t.Status.Ended(), t.Status == sagaclient.Succeeded && time.Since(t.UpdateTime) < ttl:
			return gid, true, nil
		}
	}
	return "", false, errGenerations
}

func (c *Coordinator) query(ctx context.Context, gid string) (sagaclient.Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return c.Client.Query(ctx, gid)
}

// plausible: what cannot be a gid is not asked for.
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

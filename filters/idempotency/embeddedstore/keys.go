package embeddedstore

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// What lies in the folder:
//
//	r ID                → epoch (uvarint), record ([idempotency.AppendRecord])
//	x expiry (8 B) ID   → nothing; the expiry in nanoseconds since 1970, big endian, so that the order of keys is that of time
//	s NAME              → a secret
//	m epoch             → the epoch of the last opening (8 B)
const (
	prefixRecord = 'r'
	prefixExpiry = 'x'
	prefixSecret = 's'
)

var epochKey = []byte("mepoch")

func recordKey(id string) []byte   { return append([]byte{prefixRecord}, id...) }
func secretKey(name string) []byte { return append([]byte{prefixSecret}, name...) }

func expiryKey(at time.Time, id string) []byte {
	b := make([]byte, 0, 9+len(id))
	b = binary.BigEndian.AppendUint64(append(b, prefixExpiry), uint64(max(at.UnixNano(), 0)))
	return append(b, id...)
}

// cutExpiryKey returns the ID in an expiry key.
func cutExpiryKey(key []byte) (id string, ok bool) {
	if len(key) < 9 {
		return "", false
	}
	return string(key[9:]), true
}

func encodeRecord(epoch uint64, r *idempotency.Record) []byte {
	return idempotency.AppendRecord(binary.AppendUvarint(make([]byte, 0, 256), epoch), r)
}

// decodeRecord reads a stored record as it stands in this epoch: nil for one that a dead process claimed and sent nothing under.
func decodeRecord(epoch uint64, value []byte) (*idempotency.Record, error) {
	claimedIn, n := binary.Uvarint(value)
	if n <= 0 {
		return nil, fmt.Errorf("%w: no epoch", idempotency.ErrCorrupt)
	}
	rec, err := idempotency.DecodeRecord(value[n:])
	if err != nil {
		return nil, err
	}
	if rec.State == idempotency.InFlight && claimedIn != epoch {
		if rec.Unsent {
			return nil, nil
		}
		rec.State = idempotency.Unknown
	}
	return &rec, nil
}

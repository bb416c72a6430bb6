package idempotency

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" zero") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-1<<33, 1<<36).Draw(t, name),
		rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns")).UTC()
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		ID: rapid.String().Draw(t, "id"), State: State(rapid.IntRange(int(InFlight), int(Unknown)).Draw(t, "state")),
		Token: rapid.Uint64().Draw(t, "token"), Attempt: rapid.Int().Draw(t, "attempt"),
		Route: rapid.String().Draw(t, "route"), Service: rapid.String().Draw(t, "service"),
		Principal: rapid.String().Draw(t, "principal"),
		ClientKey: rapid.String().Draw(t, "key"), GID: rapid.String().Draw(t,
			"gid"), NotDispatched: rapid.Bool().Draw(t,
			"not dispatched"),
		Counted: rapid.Bool().Draw(t, "counted"),
		Created: drawTime(t, "created"), LeaseUntil: drawTime(t, "lease"), CapUntil: drawTime(t, "cap"),
		Expires: drawTime(t, "expires"), TTL: time.Duration(rapid.Int64().Draw(t, "ttl")),
	}
	copy(r.Fingerprint[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "fingerprint"))
	if b := rapid.SliceOf(rapid.Byte()).Draw(t, "response"); len(b) > 0 {
		r.Response = b
	}
	return r
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		prefix := []byte("kept")
		b := AppendRecord(append([]byte(nil), prefix...), &want)
		if !bytes.HasPrefix(b, prefix) {
			t.Fatalf("AppendRecord changed what stood in dst: %q", b)
		}
		got, err := DecodeRecord(b[len(prefix):])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
		if got, err = RecordIn(b[len(prefix):]); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("in the bytes: %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func sampleRecord() Record {
	now := time.Unix(1_790_000_000, 123_456_789).UTC()
	return Record{
		ID: "id", State: Answered, Token: 1<<63 + 7, Attempt: 2, Fingerprint: [32]byte{1, 2, 3}, Route: "create-order",
		Service: "order", Principal: "anna", ClientKey: "k-1", Created: now, LeaseUntil: now.Add(time.Second),
		CapUntil: now.Add(time.Minute),
		Expires:  now.Add(time.Hour), TTL: time.Hour,
		Response: []byte("the stored form of a response"),
	}
}

func TestCodecRefusesDamage(t *testing.T) {
	r := sampleRecord()
	record := AppendRecord(nil, &r)
	decode := func(b []byte) error { _, err := DecodeRecord(b); return err }
	refusesDamage(t, record, ErrCorrupt, decode)
	// A sound checksum over nonsense: the fields themselves are checked too.
	for _, body := range [][]byte{{recordVersion}, {recordVersion, 9}, {1, 1, 0},
		bytes.Repeat([]byte{recordVersion}, 60)} {
		if err := decode(appendCRC(bytes.Clone(body), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record % x: %v", body, err)
		}
	}
}

// refusesDamage cuts what is stored at every byte, flips every bit, and appends to it.
func refusesDamage(t *testing.T, stored []byte, want error, decode func([]byte) error) {
	t.Helper()
	for n := range stored {
		if err := decode(stored[:n]); !errors.Is(err, want) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(stored), err)
		}
	}
	for bit := range len(stored) * 8 {
		damaged := bytes.Clone(stored)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := decode(damaged); !errors.Is(err, want) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
	if err := decode(append(bytes.Clone(stored), 0)); !errors.Is(err, want) {
		t.Errorf("a byte too many: %v", err)
	}
}

// FuzzDecode: no input makes the decoder panic, and what decodes encodes to something that decodes
// to the same. The fuzzer cannot guess a checksum, so the body is given one.
func FuzzDecode(f *testing.F) {
	r := sampleRecord()
	b := AppendRecord(nil, &r)
	f.Add(b[:len(b)-crcLen])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = DecodeRecord(body)
		b := appendCRC(bytes.Clone(body), 0)
		if r, err := DecodeRecord(b); err == nil {
			again, err := DecodeRecord(AppendRecord(nil, &r))
			if err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("got %+v, %v\nwant %+v", again, err, r)
			}
		}
	})
}

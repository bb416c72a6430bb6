package idempotency

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters"
)

func drawTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" zero") {
		return time.Time{}
	}
	return time.Unix(rapid.Int64Range(-1<<33, 1<<36).Draw(t, name), rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns")).UTC()
}

func drawAnswer(t *rapid.T) Answer {
	a := Answer{Status: rapid.IntRange(0, 999).Draw(t, "status"), Replayable: rapid.Bool().Draw(t, "replayable")}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		a.Header.Add(rapid.String().Draw(t, "name"), rapid.String().Draw(t, "value"))
	}
	if body := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(body) > 0 {
		a.Body = body
	}
	return a
}

func drawRecord(t *rapid.T) Record {
	r := Record{
		ID: rapid.String().Draw(t, "id"), State: State(rapid.IntRange(int(InFlight), int(Unknown)).Draw(t, "state")),
		Token: rapid.Uint64().Draw(t, "token"), Attempt: rapid.Int().Draw(t, "attempt"),
		Route: rapid.String().Draw(t, "route"), Principal: rapid.String().Draw(t, "principal"),
		ClientKey: rapid.String().Draw(t, "key"), GID: rapid.String().Draw(t, "gid"), Unsent: rapid.Bool().Draw(t, "unsent"),
		Created: drawTime(t, "created"), LeaseUntil: drawTime(t, "lease"), CapUntil: drawTime(t, "cap"),
		Expires: drawTime(t, "expires"), TTL: time.Duration(rapid.Int64().Draw(t, "ttl")),
	}
	copy(r.Fingerprint[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "fingerprint"))
	if rapid.Bool().Draw(t, "answered") {
		a := drawAnswer(t)
		r.Answer = &a
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
		answer := drawAnswer(t)
		stored := AppendAnswer(nil, &answer)
		if n := AnswerSize(&answer); n != len(stored) {
			t.Fatalf("AnswerSize of %+v is %d, it takes %d bytes", answer, n, len(stored))
		}
		back, err := DecodeAnswer(stored)
		if err != nil || !reflect.DeepEqual(back, answer) {
			t.Fatalf("got %+v, %v\nwant %+v", back, err, answer)
		}
		if back, err = AnswerIn(stored); err != nil || !reflect.DeepEqual(back, answer) {
			t.Fatalf("in the bytes: %+v, %v\nwant %+v", back, err, answer)
		}
	})
}

func sampleRecord() Record {
	now := time.Unix(1_790_000_000, 123_456_789).UTC()
	return Record{
		ID: "id", State: Answered, Token: 1<<63 + 7, Attempt: 2, Fingerprint: [32]byte{1, 2, 3}, Route: "create-order",
		Principal: "anna", ClientKey: "k-1", Created: now, LeaseUntil: now.Add(time.Second), CapUntil: now.Add(time.Minute),
		Expires: now.Add(time.Hour), TTL: time.Hour,
		Answer: &Answer{Status: 201, Header: filters.Header{{Name: "Location", Value: "/v1/orders/1"}}, Body: []byte("{}"), Replayable: true},
	}
}

func TestCodecRefusesDamage(t *testing.T) {
	r := sampleRecord()
	record, answer := AppendRecord(nil, &r), AppendAnswer(nil, r.Answer)
	decodeRecord := func(b []byte) error { _, err := DecodeRecord(b); return err }
	decodeAnswer := func(b []byte) error { _, err := DecodeAnswer(b); return err }
	for _, c := range []struct {
		name   string
		b      []byte
		decode func([]byte) error
	}{{"record", record, decodeRecord}, {"answer", answer, decodeAnswer}} {
		for n := range c.b {
			if err := c.decode(c.b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s cut to %d of %d bytes: %v", c.name, n, len(c.b), err)
			}
		}
		for bit := range len(c.b) * 8 {
			damaged := bytes.Clone(c.b)
			damaged[bit/8] ^= 1 << (bit % 8)
			if err := c.decode(damaged); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with bit %d flipped: %v", c.name, bit, err)
			}
		}
		if err := c.decode(append(bytes.Clone(c.b), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte too many: %v", c.name, err)
		}
	}
	// A sound checksum over nonsense: the fields themselves are checked too.
	for _, body := range [][]byte{{recordVersion}, {recordVersion, 9}, {2, 1, 0}, bytes.Repeat([]byte{recordVersion}, 60), {answerVersion, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}} {
		b := appendCRC(bytes.Clone(body), 0)
		if err := decodeRecord(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record % x: %v", body, err)
		}
		if err := decodeAnswer(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("answer % x: %v", body, err)
		}
	}
}

// FuzzDecode: no input makes the decoder panic, and what decodes encodes to something that decodes to the same.
// The fuzzer cannot guess a checksum, so the body is given one.
func FuzzDecode(f *testing.F) {
	r := sampleRecord()
	b := AppendRecord(nil, &r)
	f.Add(b[:len(b)-crcLen])
	b = AppendAnswer(nil, r.Answer)
	f.Add(b[:len(b)-crcLen])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = DecodeRecord(body)
		_, _ = DecodeAnswer(body)
		b := appendCRC(bytes.Clone(body), 0)
		if r, err := DecodeRecord(b); err == nil {
			again, err := DecodeRecord(AppendRecord(nil, &r))
			if err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("got %+v, %v\nwant %+v", again, err, r)
			}
		}
		if a, err := DecodeAnswer(b); err == nil {
			again, err := DecodeAnswer(AppendAnswer(nil, &a))
			if err != nil || !reflect.DeepEqual(again, a) {
				t.Fatalf("got %+v, %v\nwant %+v", again, err, a)
			}
		}
	})
}

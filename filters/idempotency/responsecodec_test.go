package idempotency

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters"
)

func drawFields(t *rapid.T, what string) (h filters.Header) {
	for range rapid.IntRange(0, 5).Draw(t, what) {
		h.Add(rapid.String().Draw(t, "name"), rapid.String().Draw(t, "value"))
	}
	return h
}

func drawAnswer(t *rapid.T) Response {
	a := Response{Status: rapid.IntRange(0, 999).Draw(t, "status"), Replayable: rapid.Bool().Draw(t, "replayable")}
	a.Header, a.Trailer = drawFields(t, "header"), drawFields(t, "trailer")
	if body := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(body) > 0 {
		a.Body = bytes.Repeat(body, rapid.IntRange(1, 200).Draw(t, "repeated")) // so that some compress
	}
	return a
}

func newCodec(t testing.TB, keys ...byte) *ResponseCodec {
	var all [][]byte
	for _, k := range keys {
		all = append(all, bytes.Repeat([]byte{k}, EncryptionKeyLength))
	}
	c, err := NewResponseCodec(all...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestResponseRoundTrip(t *testing.T) {
	for name, c := range map[string]*ResponseCodec{"plain": {}, "sealed": newCodec(t, 1, 2)} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := drawAnswer(t)
				prefix := []byte("kept")
				b := c.Append(bytes.Clone(prefix), "id", &want)
				if !bytes.HasPrefix(b, prefix) {
					t.Fatalf("Append changed what stood in dst: %q", b)
				}
				got, err := c.Open("id", b[len(prefix):])
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
				}
			})
		})
	}
}

func sampleAnswer() *Response {
	return &Response{
		Status: 201, Header: filters.Header{{Name: "Location",
			Value: "/v1/orders/1"}}, Body: []byte("{}"), Replayable: true,
		Trailer: filters.Header{{Name: "Grpc-Status", Value: "0"}},
	}
}

func TestDamagedResponseIsRefused(t *testing.T) {
	long := sampleAnswer()
	long.Body = bytes.Repeat([]byte("compressible "), 100)
	for _, a := range []*Response{sampleAnswer(), long} {
		plain, sealed := new(ResponseCodec), newCodec(t, 1)
		refusesDamage(t, plain.Append(nil, "id", a), ErrCorrupt, func(b []byte) error {
			_, err := plain.Open("id", b)
			if errors.Is(err, ErrForged) { // the first byte says that it is sealed, and there are no keys
				err = ErrCorrupt
			}
			return err
		})
		refusesDamage(t, sealed.Append(nil, "id", a), ErrForged,
			func(b []byte) error { _, err := sealed.Open("id", b); return err })
	}
	for _, body := range [][]byte{{responsePlain}, {responsePlain, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
		{responsePlain, 0xff, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}} {
		if _, err := new(ResponseCodec).Open("id", appendCRC(bytes.Clone(body), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("response % x: %v", body, err)
		}
	}
}

// A sealed response is good for its own record, under the keys there are, and only sealed ones are
// taken.
func TestSealedAnswer(t *testing.T) {
	old, rotated, other := newCodec(t, 1), newCodec(t, 2, 1), newCodec(t, 3)
	a := sampleAnswer()
	b := old.Append(nil, "id", a)
	if bytes.Contains(b, []byte("orders")) {
		t.Errorf("the response can be read in %q", b)
	}
	if bytes.Equal(b, old.Append(nil, "id", a)) {
		t.Error("the same nonce was drawn twice")
	}
	if got, err := rotated.Open("id", b); err != nil || !reflect.DeepEqual(&got, a) {
		t.Errorf("under a key that is not the first: %+v, %v", got, err)
	}
	if _, err := old.Open("id", rotated.Append(nil, "id", a)); !errors.Is(err, ErrForged) {
		t.Errorf("rotation seals with the old key: %v", err)
	}
	for name, open := range map[string]func() error{
		"moved to another record": func() error { _, err := old.Open("ie", b); return err },
		"another key":             func() error { _, err := other.Open("id", b); return err },
		"no key":                  func() error { _, err := new(ResponseCodec).Open("id", b); return err },
		"not sealed": func() error {
			_,
				err := old.Open("id", new(ResponseCodec).Append(nil, "id", a))
			return err
		},
		"empty": func() error { _, err := old.Open("id", nil); return err },
	} {
		if err := open(); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewResponseCodec(make([]byte, 31)); err == nil || !strings.Contains(err.Error(), "31") {
		t.Errorf("a short key: %v", err)
	}
}

func TestCompressedWhereItPays(t *testing.T) {
	text := &Response{Status: 200, Body: bytes.Repeat([]byte(`{"sku":"SKU-1"},`), 200)}
	c := new(ResponseCodec)
	if n := len(c.Append(nil, "id", text)); n > len(text.Body)/4 {
		t.Errorf("a repetitive body of %d bytes is kept in %d", len(text.Body), n)
	}
	text.Header.Add("Content-Encoding", "br")
	if n := len(c.Append(nil, "id", text)); n < len(text.Body) {
		t.Errorf("what is encoded already was compressed again, to %d bytes", n)
	}
}

// FuzzResponse: no input makes the codec panic, and what opens is stored as something that opens to
// the same. The fuzzer cannot guess a checksum, so the fields are given one.
func FuzzResponse(f *testing.F) {
	c := new(ResponseCodec)
	b := c.Append(nil, "id", sampleAnswer())
	f.Add(b[1 : len(b)-crcLen])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, fields []byte) {
		a, err := c.Open("id", appendCRC(append([]byte{responsePlain}, fields...), 0))
		if err != nil {
			return
		}
		again, err := c.Open("id", c.Append(nil, "id", &a))
		if err != nil || len(a.Body) == 0 && len(again.Body) != 0 || len(a.Body) > 0 && !reflect.DeepEqual(again, a) {
			t.Fatalf("got %+v, %v\nwant %+v", again, err, a)
		}
	})
}

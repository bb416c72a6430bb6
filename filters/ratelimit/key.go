package ratelimit

import (
	"crypto/sha256"
	"hash"
	"strconv"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// keyBytesMax is the longest key that is used as it is.
const keyBytesMax = 128

// digestMark begins a key that is a digest. A plain key never begins so: see key.
const digestMark = "\x00"

// key joins the values of the references so that different values never give the same key: one
// value stands for itself, several are each preceded by their length. It names nothing else: a
// limiter belongs to one limit. The text is valid as long as the exchange's own texts are. The
// error is one of reading a part of the request.
func key(per []ref.Ref, x *filters.Exchange) (string, error) {
	if len(per) == 0 {
		return "", nil
	}
	var buf [keyBytesMax]byte
	b := buf[:0]
	var long *longKey
	for i := range per {
		v, _, err := per[i].Text(x)
		switch {
		case err != nil:
			return "", err
		case len(per) == 1 && len(v) <= keyBytesMax && (v == "" || v[:1] != digestMark):
			return v, nil
		case long == nil && (len(per) == 1 || len(appendLength(b, v))+len(v) > keyBytesMax):
			long = newLongKey()
			long.add(string(b))
		}
		switch {
		case long == nil:
			b = append(appendLength(b, v), v...)
		case len(per) > 1:
			long.add(string(appendLength(b[:0], v)))
			fallthrough
		default:
			long.add(v)
		}
	}
	if long != nil {
		return x.Text(long.hash.Sum(append(x.Scratch(), digestMark...))), nil
	}
	return x.Text(append(x.Scratch(), b...)), nil
}

func appendLength(b []byte, v string) []byte {
	return append(strconv.AppendInt(b, int64(len(v)), 10), ':')
}

// longKey digests a key as it is written, since its values can be as long as a body.
type longKey struct {
	hash  hash.Hash
	chunk [512]byte
}

func newLongKey() *longKey { return &longKey{hash: sha256.New()} }

func (k *longKey) add(text string) {
	for len(text) > 0 {
		n := copy(k.chunk[:], text)
		k.hash.Write(k.chunk[:n])
		text = text[n:]
	}
}

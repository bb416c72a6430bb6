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
	j := joiner{several: len(per) > 1}
	for i := range per {
		v, _, err := per[i].Text(x)
		if err != nil {
			return "", err
		}
		if len(per) == 1 && isPlain(v) {
			return v, nil
		}
		j.add(v)
	}
	if j.long != nil {
		return x.Text(j.long.hash.Sum(append(x.Scratch(), digestMark...))), nil
	}
	return x.Text(append(x.Scratch(), j.plain[:j.n]...)), nil
}

// Key is the key of a limit for those values of its references: the one that [Filter] uses for a request with them.
func Key(values []string) string {
	switch {
	case len(values) == 0:
		return ""
	case len(values) == 1 && isPlain(values[0]):
		return values[0]
	}
	j := joiner{several: len(values) > 1}
	for _, v := range values {
		j.add(v)
	}
	if j.long != nil {
		return string(j.long.hash.Sum([]byte(digestMark)))
	}
	return string(j.plain[:j.n])
}

// isPlain reports whether a value alone is its own key.
func isPlain(v string) bool { return len(v) <= keyBytesMax && (v == "" || v[:1] != digestMark) }

// joiner joins values, as they are while they are short enough.
type joiner struct {
	several bool
	n       int // how much of plain is used
	plain   [keyBytesMax]byte
	long    *longKey
}

func (j *joiner) add(v string) {
	if j.long == nil && j.several {
		if head := appendLength(j.plain[:j.n], v); len(head)+len(v) <= keyBytesMax {
			j.n = len(head) + copy(j.plain[len(head):], v)
			return
		}
	}
	if j.long == nil {
		j.long = newLongKey()
		j.long.add(string(j.plain[:j.n]))
	}
	if j.several {
		j.long.add(string(appendLength(nil, v)))
	}
	j.long.add(v)
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

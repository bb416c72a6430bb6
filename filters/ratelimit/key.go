package ratelimit

import (
	"crypto/sha256"
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
// limiter belongs to one limit. The text is valid as long as the exchange's own texts are.
func key(per []ref.Ref, x *filters.Exchange) string {
	switch len(per) {
	case 0:
		return ""
	case 1:
		v, _ := per[0].Text(x)
		if len(v) <= keyBytesMax && (v == "" || v[:1] != digestMark) {
			return v
		}
		return digest(x, []byte(v))
	}
	var buf [keyBytesMax]byte
	b := buf[:0]
	for _, r := range per {
		v, _ := r.Text(x)
		b = strconv.AppendInt(b, int64(len(v)), 10)
		b = append(b, ':')
		b = append(b, v...)
	}
	if len(b) <= keyBytesMax {
		return x.Text(append(x.Scratch(), b...))
	}
	return digest(x, b)
}

func digest(x *filters.Exchange, b []byte) string {
	sum := sha256.Sum256(b)
	return x.Text(append(append(x.Scratch(), digestMark...), sum[:]...))
}

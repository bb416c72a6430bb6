package filters

import (
	"math"
	"strconv"
	"time"
)

// grpcUnits are the units of a grpc-timeout (PROTOCOL-HTTP2.md of gRPC, "Timeout").
var grpcUnits = [...]struct {
	letter byte
	length time.Duration
}{
	{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond},
	{'S', time.Second}, {'M', time.Minute}, {'H', time.Hour},
}

const grpcTimeoutDigits = 8

// ParseGRPCTimeout reads the value of a grpc-timeout field: 1 to 8 digits and a unit. One that is longer
// than a Duration is the longest. Zero, which the protocol does not have and clients send whose time is
// over, is 0.
func ParseGRPCTimeout(text string) (time.Duration, bool) {
	n := len(text) - 1
	if n < 1 || n > grpcTimeoutDigits {
		return 0, false
	}
	var value int64
	for i := range n {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		value = 10*value + int64(c-'0')
	}
	for _, u := range grpcUnits {
		switch {
		case u.letter != text[n]:
		case value > math.MaxInt64/int64(u.length):
			return math.MaxInt64, true
		default:
			return time.Duration(value) * u.length, true
		}
	}
	return 0, false
}

// AppendGRPCTimeout appends a timeout in the finest unit in which it has no more than 8 digits, rounded
// down.
func AppendGRPCTimeout(dst []byte, d time.Duration) []byte {
	const most = 99_999_999
	d = max(d, 0)
	for _, u := range grpcUnits {
		if n := int64(d / u.length); n <= most {
			return append(strconv.AppendInt(dst, n, 10), u.letter)
		}
	}
	return append(strconv.AppendInt(dst, most, 10), 'H')
}

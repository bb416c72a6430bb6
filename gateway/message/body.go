package message

import "github.com/sluice-gateway/sluice/filters"

// lengthDigitsMax is how many digits a Content-Length may have, leading zeros among them.
const lengthDigitsMax = 18

// ParseLength reads a Content-Length: digits only (RFC 9110 §8.6), at most [lengthDigitsMax].
func ParseLength(s string) (int64, bool) {
	if s == "" || len(s) > lengthDigitsMax {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = 10*n + int64(d)
	}
	return n, true
}

// HasNoBody reports whether a response has no body whatever its fields say (RFC 9110 §6.4.1).
func HasNoBody(method string, status int) bool {
	return method == "HEAD" || status < 200 || status == 204 || status == 304
}

// Allowance is how many bytes of a body may still be read; below 0 more has come than may.
type Allowance int64

// Unlimited is the allowance of a body without a limit.
const Unlimited Allowance = 1 << 62

// Spent reports whether more has come than may.
func (a Allowance) Spent() bool { return a < 0 }

// Clip shortens p to what may be read and one byte, by which a longer body shows.
func (a Allowance) Clip(p []byte) []byte {
	if int64(len(p)) > int64(a)+1 {
		return p[:a+1]
	}
	return p
}

// Spend takes n bytes that were read into what Clip returned, and returns what Read returns:
// [filters.ErrBodyTooLarge] behind the last byte that may be read, else err.
func (a *Allowance) Spend(n int, err error) (int, error) {
	if *a -= Allowance(n); *a < 0 {
		return n - 1, filters.ErrBodyTooLarge
	}
	return n, err
}

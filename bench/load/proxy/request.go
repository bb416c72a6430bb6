package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
)

// The kinds of requests. Paths are those of the upstream.
const (
	loadGet  = "GET"
	loadPost = "POST, 512 bytes, keyed"
	loadBig  = "GET, 64 KiB answers"
	loadH2   = "HTTP/2 GET"
	loadGRPC = "gRPC unary"

	// Of bench idempotency: requests of 512 bytes, all alike but for path and key.
	loadKeyed  = "keyed POST"
	loadPlain  = "POST without a key"
	loadReplay = "replay"
)

// loads are all of bench proxy, in the order in which they run; keyLoads those of bench idempotency.
var (
	loads    = []string{loadGet, loadPost, loadBig, loadH2, loadGRPC}
	keyLoads = []string{loadPlain, loadKeyed, loadReplay}
)

const (
	users     = 1000 // who ask in turn; a limiter has to look up more than one of them
	bigBytes  = 64 << 10
	bodyBytes = 512
)

// smallAnswer is the upstream's usual answer: with its header about 400 bytes, of which 200 are body.
var smallAnswer = `{"id":"` + strings.Repeat("a", 191) + `"}`

// keys counts the keys of all requests of this process, so that none is ever sent twice.
var keys atomic.Int64

// request is a request in bytes, of which only the user and the key change.
type request struct {
	wire      []byte
	user, key []byte // their digits within wire; key is nil where the request has none
	again     int64  // not zero: the keys are those from here on, one a user, over and over
	n         int
}

const userDigits, keyDigits = 3, 12

// newRequest returns the request of a load over HTTP/1.1. Every contender gets the same bytes.
func newRequest(load, host string) *request {
	zeros := strings.Repeat("0", keyDigits)
	line, rest, body := "GET /small HTTP/1.1", "", ""
	switch load {
	case loadBig:
		line = "GET /big HTTP/1.1"
	case loadPost, loadKeyed, loadPlain, loadReplay:
		line = "POST " + postPath(load) + " HTTP/1.1"
		body = `{"note":"` + strings.Repeat("b", bodyBytes-11) + `"}`
		rest = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
		if load != loadPlain {
			rest += "Idempotency-Key: key-" + zeros + "\r\n"
		}
	}
	head := line + "\r\nHost: " + host + "\r\nUser-Agent: sluice-bench\r\nAccept: application/json\r\nX-User: user-" + zeros[:userDigits] + "\r\n" + rest + "\r\n"
	r := &request{wire: []byte(head + body)}
	at := strings.Index(head, "user-") + len("user-")
	r.user = r.wire[at : at+userDigits]
	if at = strings.Index(head, "key-"); at >= 0 {
		at += len("key-")
		r.key = r.wire[at : at+keyDigits]
	}
	if load == loadReplay {
		r.again = keys.Add(users) - users + 1
	}
	return r
}

// postPath is what the keyed and the plain route of bench idempotency are told apart by; the upstream answers the same to all.
func postPath(load string) string {
	switch load {
	case loadKeyed, loadReplay:
		return "/keyed"
	case loadPlain:
		return "/plain"
	}
	return "/small"
}

// next returns the bytes of the next request, valid until next is called again.
func (r *request) next() []byte {
	r.n++
	user := int64(r.n % users)
	digits(r.user, user)
	switch {
	case r.again != 0:
		digits(r.key, r.again+user)
	case r.key != nil:
		digits(r.key, keys.Add(1))
	}
	return r.wire
}

// digits writes a number in place, with leading zeros.
func digits(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

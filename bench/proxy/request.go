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
)

// loads are all, in the order in which they run.
var loads = []string{loadGet, loadPost, loadBig, loadH2, loadGRPC}

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
	case loadPost:
		line = "POST /small HTTP/1.1"
		body = `{"note":"` + strings.Repeat("b", bodyBytes-11) + `"}`
		rest = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\nIdempotency-Key: key-%s\r\n", len(body), zeros)
	}
	head := line + "\r\nHost: " + host + "\r\nUser-Agent: sluice-bench\r\nAccept: application/json\r\nX-User: user-" + zeros[:userDigits] + "\r\n" + rest + "\r\n"
	r := &request{wire: []byte(head + body)}
	at := strings.Index(head, "user-") + len("user-")
	r.user = r.wire[at : at+userDigits]
	if load == loadPost {
		at = strings.Index(head, "key-") + len("key-")
		r.key = r.wire[at : at+keyDigits]
	}
	return r
}

// next returns the bytes of the next request, valid until next is called again.
func (r *request) next() []byte {
	r.n++
	digits(r.user, int64(r.n%users))
	if r.key != nil {
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

package measure

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// Load is a kind of request. It is comparable, and its text is its name.
type Load struct {
	Name     string
	Protocol Protocol
	Path     string // of HTTP1 and HTTPS
	Post     bool   // [BodyBytes] of JSON; else a GET
	Keys     Keys
	Users    int   // who ask in turn; 0 is a thousand
	Paths    int   // "#####" in Path is a number below this, another one in each request
	Rate     int   // requests a second, at fixed moments; 0: each connection sends when its response is there
	KeysFrom int64 // the first of the recorded keys, which the caller has had recorded; 0: new ones, by warming up
}

// Protocol is what a load is sent by.
type Protocol int

// HTTP1 is HTTP/1.1, HTTP2 a GET over cleartext HTTP/2, GRPC a unary call over it, HTTPS is HTTP/1.1 with TLS,
// HTTP2TLS HTTP/2 with TLS.
const (
	HTTP1 Protocol = iota
	HTTP2
	GRPC
	HTTPS
	HTTP2TLS
)

// Keys says which idempotency keys the requests of a load have.
type Keys int

// NoKeys is none, FreshKeys never the same twice, RecordedKeys over and over those that were
// answered when the connections were warmed.
const (
	NoKeys Keys = iota
	FreshKeys
	RecordedKeys
)

func (l Load) String() string { return l.Name }

// MarshalText makes the name a key of JSON.
func (l Load) MarshalText() ([]byte, error) { return []byte(l.Name), nil }

// Get is the plainest load; what an idle connection costs and the latency of a proxy are measured
// with it.
var Get = Load{Name: "GET", Path: SmallPath}

// GetTLS is the same with TLS.
var GetTLS = Load{Name: "HTTPS GET", Protocol: HTTPS, Path: SmallPath}

// The paths of the upstream: 200 bytes, [BigBytes] and [HugeBytes].
const (
	SmallPath = "/small"
	BigPath   = "/big"
	HugePath  = "/huge"
)

const (
	users     = 1000 // who ask in turn; a limiter has to look up more than one of them
	BigBytes  = 64 << 10
	HugeBytes = 1 << 20
	BodyBytes = 512
)

// smallResponse is the upstream's usual response: with its header about 400 bytes, of which 200 are
// body.
var smallResponse = `{"id":"` + strings.Repeat("a", 191) + `"}`

// keys counts the keys of all requests of this process, so that none is ever sent twice.
var keys atomic.Int64

// request is a request in bytes, of which only the user and the key change.
type request struct {
	wire      []byte
	user, key []byte // their digits within wire; key is nil where the request has none
	path      []byte // its digits within wire; nil where all requests have one path
	again     int64  // not zero: the keys are those from here on, one a user, over and over
	users     int64
	paths     int64
	n         int64
}

const userDigits, keyDigits = 3, 12

// Where users, paths or keys are many, those that follow upon each other do not lie beside each other in memory: the
// numbers go around in steps of this prime.
const stride = 611_953

// PathDigits stands for the number in [Load.Path].
const PathDigits = "#####"

// newRequest returns the request of a load over HTTP/1.1. Every contender gets the same bytes.
func newRequest(load Load, host string) *request {
	zeros := strings.Repeat("0", keyDigits)
	count := cmp.Or(load.Users, users)
	path := strings.Replace(load.Path, PathDigits, zeros[:len(PathDigits)], 1)
	line, rest, body := "GET "+path+" HTTP/1.1", "", ""
	if load.Post {
		line = "POST " + path + " HTTP/1.1"
		body = `{"note":"` + strings.Repeat("b", BodyBytes-11) + `"}`
		rest = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	if load.Keys != NoKeys {
		rest += "Idempotency-Key: key-" + zeros + "\r\n"
	}
	head := line + "\r\nHost: " + host + "\r\nUser-Agent: sluice-bench\r\nAccept: application/json\r\nX-User: user-" +
		zeros[:max(userDigits, len(strconv.Itoa(count-1)))] + "\r\n" + rest + "\r\n"
	r := &request{wire: []byte(head + body), users: int64(count), paths: int64(load.Paths)}
	at := strings.Index(head, "user-") + len("user-")
	r.user = r.wire[at : at+strings.IndexByte(head[at:], '\r')]
	if at = strings.Index(load.Path, PathDigits); at >= 0 {
		at += strings.IndexByte(head, '/')
		r.path = r.wire[at : at+len(PathDigits)]
	}
	if at = strings.Index(head, "key-"); at >= 0 {
		at += len("key-")
		r.key = r.wire[at : at+keyDigits]
	}
	if load.Keys == RecordedKeys {
		if r.again = load.KeysFrom; r.again == 0 {
			r.again = keys.Add(r.users) - r.users + 1
		}
	}
	return r
}

// next returns the bytes of the next request, valid until next is called again.
func (r *request) next() []byte {
	r.n++
	user := r.n % r.users
	if r.users > users {
		user = r.n * stride % r.users
	}
	digits(r.user, user)
	if r.path != nil {
		digits(r.path, r.n*stride%r.paths)
	}
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

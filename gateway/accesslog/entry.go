package accesslog

import (
	"net/netip"
	"time"
)

// Entry is what is known of a request when it is over. Its strings are only read until Write returns.
type Entry struct {
	Time      time.Time // when its head had been read
	RequestID string
	TraceID   string // of the W3C trace context, "" without one
	Method    string
	Host      string
	Path      string // without the query, which may have secrets
	Protocol  string // of HTTP: 1.0, 1.1 or 2
	Upgraded  bool   // the connection went on in another protocol
	Peer      netip.Addr
	Client    netip.Addr
	Principal string

	Route    string // "" when no route was found
	Service  string
	Endpoint string

	Status   int
	Reason   string // "" when the response is the service's
	Record   string // of the idempotency key
	Attempt  int    // 0 without a key
	Replayed bool

	In, Out int64 // bytes of the bodies; -1: not known
	// Total is the time from the head of the request to the end of the response. The others are parts of it.
	Total, ServiceTime, StoreTime, QueueTime time.Duration
}

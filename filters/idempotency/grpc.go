package idempotency

import (
	"strconv"

	"github.com/sluice-gateway/sluice/filters"
)

// What became of a gRPC request says the grpc-status behind its answer, or in the head of one that has nothing else; the HTTP status is 200 whatever
// happened. It is read as the HTTP status that google.rpc.Code gives it, and then judged by the route's settings like any other:
//
//	0  OK                  200   9  FAILED_PRECONDITION  400
//	1  CANCELLED           504   10 ABORTED              409
//	2  UNKNOWN             500   11 OUT_OF_RANGE         400
//	3  INVALID_ARGUMENT    400   12 UNIMPLEMENTED        501
//	4  DEADLINE_EXCEEDED   504   13 INTERNAL             500
//	5  NOT_FOUND           404   14 UNAVAILABLE          503
//	6  ALREADY_EXISTS      409   15 DATA_LOSS            500
//	7  PERMISSION_DENIED   403   16 UNAUTHENTICATED      401
//	8  RESOURCE_EXHAUSTED  500   none, or another one    500
//
// Three of them differ. CANCELLED is 499 there, which a route that records 4xx would take for final: but the service stopped half-way since somebody did
// not wait any longer, and what it had done by then nobody knows, just as with DEADLINE_EXCEEDED. UNIMPLEMENTED is what the libraries say of a
// method that is not there: nothing was done, and the key is free unless the route records 501.
//
// RESOURCE_EXHAUSTED is 429 there, after which the key would be free. But libraries say it of an answer that is too long to be sent as well, and then the request
// has been done. So nobody knows, unless the route names 429 in notExecuted.
//
// The bytes of a message are part of the fingerprint where the body is. Protocol Buffers do not promise the same bytes for the same message (those of a
// map come in any order): a client that builds the message anew for a repeat needs a fingerprint without the body.
//
// Only what fits in one message can be replayed. A body in the fingerprint is read to its end before anything is sent, so a route for calls whose
// client waits for an answer before it has sent everything leaves it out: else such a call waits until listen.idleTimeout ends it.
var grpcStatuses = [...]int{200, 504, 500, 400, 504, 404, 409, 403, 500, 400, 409, 400, 501, 500, 503, 500, 401}

const (
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
)

// IsGRPC reports whether a Content-Type is that of gRPC. That of gRPC-Web is not: its trailers are a part of the body.
func IsGRPC(contentType string) bool {
	const name = "application/grpc"
	if !filters.HasNamePrefix(contentType, name) {
		return false
	}
	return len(contentType) == len(name) || contentType[len(name)] == '+' || contentType[len(name)] == ';'
}

// judge is the verdict on a response. A stream's status is not known yet: it is judged by its head.
func (s *Settings) judge(r *filters.Response) Op {
	if !r.Whole || r.Status != 200 || !IsGRPC(r.Header.Get("Content-Type")) {
		return s.verdict(r.Status)
	}
	text, trails := r.Trailer.Lookup("Grpc-Status")
	if !trails {
		text = r.Header.Get("Grpc-Status")
	}
	status := 500
	if code, err := strconv.ParseUint(text, 10, 8); err == nil && code < uint64(len(grpcStatuses)) {
		status = grpcStatuses[code]
		switch {
		case code == grpcUnimplemented && !contains(s.Record, status):
			return Free
		case code == grpcResourceExhausted && contains(s.NotExecuted, 429):
			return Free
		}
	}
	return s.verdict(status)
}

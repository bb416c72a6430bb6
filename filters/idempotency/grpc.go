package idempotency

import "github.com/sluice-gateway/sluice/filters"

// judge is the verdict on a response. What became of a call of gRPC says the grpc-status behind its
// response, which is read as an HTTP status ([filters.GRPCCode.HTTPStatus]) and judged by the
// route's settings like any other. A stream's is not known yet: it is judged by its head.
//
// UNIMPLEMENTED is what the libraries say of a method that is not there: nothing was done, and the
// key is free unless the route records 501. After RESOURCE_EXHAUSTED the outcome is unknown, unless
// the route names 429 in notExecuted.
//
// The bytes of a message are part of the fingerprint where the body is. Protocol Buffers do not
// promise the same bytes for the same message (those of a map come in any order): a client that
// builds the message anew for a repeat needs a fingerprint without the body.
//
// Only what fits in one message can be replayed. A body in the fingerprint is read to its end
// before anything is sent, so a route for calls whose client waits for a response before it has
// sent everything leaves it out: else such a call waits until listen.idleTimeout ends it.
func (s *Settings) judge(r *filters.Response) Op {
	if !r.Whole || r.Status != 200 || !filters.IsGRPC(r.Header.Get("Content-Type")) {
		return s.verdict(r.Status)
	}
	code, ok := r.GRPCStatus()
	if !ok {
		return s.verdict(500)
	}
	status := code.HTTPStatus()
	switch {
	case code == filters.GRPCUnimplemented && !contains(s.Record, status):
		return Free
	case code == filters.GRPCResourceExhausted && contains(s.NotExecuted, 429):
		return Free
	}
	return s.verdict(status)
}

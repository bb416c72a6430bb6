package filters

import "strconv"

// GRPCCode is a status of gRPC (google.rpc.Code).
type GRPCCode uint8

// The codes of gRPC.
const (
	GRPCOK GRPCCode = iota
	GRPCCancelled
	GRPCUnknown
	GRPCInvalidArgument
	GRPCDeadlineExceeded
	GRPCNotFound
	GRPCAlreadyExists
	GRPCPermissionDenied
	GRPCResourceExhausted
	GRPCFailedPrecondition
	GRPCAborted
	GRPCOutOfRange
	GRPCUnimplemented
	GRPCInternal
	GRPCUnavailable
	GRPCDataLoss
	GRPCUnauthenticated
)

// IsGRPC reports whether a Content-Type is that of gRPC. That of gRPC-Web is not: its trailers are
// a part of the body.
func IsGRPC(contentType string) bool {
	const name = "application/grpc"
	if !HasNamePrefix(contentType, name) {
		return false
	}
	return len(contentType) == len(name) || contentType[len(name)] == '+' || contentType[len(name)] == ';'
}

// IsGRPC reports whether a client of gRPC waits for the response.
func (x *Exchange) IsGRPC() bool { return x.Method == "POST" && IsGRPC(x.Header.Get("Content-Type")) }

// grpcStatuses are the HTTP statuses that google.rpc.Code gives the codes:
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
// Two of them differ. CANCELLED is 499 there, which reads as a client's error: but the service
// stopped half-way since the caller did not wait any longer, and what it had done by then is not
// known, as with DEADLINE_EXCEEDED. RESOURCE_EXHAUSTED is 429 there, after which the request would
// count as not executed: but libraries say it of a response that is too long to be sent as well,
// and then it was executed.
var grpcStatuses = [...]int{200, 504, 500, 400, 504, 404, 409, 403, 500, 400, 409, 400, 501, 500, 503, 500, 401}

// ServerFault reports whether a code says that the service failed, and not the request: UNKNOWN,
// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS. It is what breakers count.
func (c GRPCCode) ServerFault() bool {
	switch c {
	case GRPCUnknown, GRPCDeadlineExceeded, GRPCInternal, GRPCUnavailable, GRPCDataLoss:
		return true
	}
	return false
}

// HTTPStatus is the HTTP status by which the outcome of a call is judged; 500 for a code that does
// not exist.
func (c GRPCCode) HTTPStatus() int {
	if int(c) < len(grpcStatuses) {
		return grpcStatuses[c]
	}
	return 500
}

// GRPCStatus returns the code of a whole response of gRPC: of its trailers, or of its head where it
// has nothing else. The HTTP status is 200 whatever happened. False: there is none, or none that
// exists.
func (r *Response) GRPCStatus() (GRPCCode, bool) {
	text, ok := r.Trailer.Lookup("Grpc-Status")
	if !ok {
		text = r.Header.Get("Grpc-Status")
	}
	code, err := strconv.ParseUint(text, 10, 8)
	if err != nil || code >= uint64(len(grpcStatuses)) {
		return GRPCUnknown, false
	}
	return GRPCCode(code), true
}

// GRPCCodeOf is the code of a refusal: by its reason where the status alone would tell the client
// to do the wrong thing, else by the status.
func GRPCCodeOf(reason Reason, status int) GRPCCode {
	switch reason {
	case Misdirected, LoopDetected: // nothing was done, and to repeat it here is of no use
		return GRPCFailedPrecondition
	case OutcomeUnknown: // to repeat it is of no use before somebody has resolved it
		return GRPCFailedPrecondition
	case ResponseNotReplayable: // it was done
		return GRPCAlreadyExists
	}
	switch status {
	case 400, 422:
		return GRPCInvalidArgument
	case 401:
		return GRPCUnauthenticated
	case 403:
		return GRPCPermissionDenied
	case 404, 405, 501: // there is no such method here
		return GRPCUnimplemented
	case 409:
		return GRPCAborted
	case 413, 429, 431:
		return GRPCResourceExhausted
	case 502, 503:
		return GRPCUnavailable
	case 504:
		return GRPCDeadlineExceeded
	}
	if status >= 500 {
		return GRPCInternal
	}
	return GRPCUnknown
}

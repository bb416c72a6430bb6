package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// askedByGRPC reports whether a client of gRPC waits for the answer.
func askedByGRPC(x *filters.Exchange) bool {
	return x.Method == http.MethodPost && idempotency.IsGRPC(x.Header.Get("Content-Type"))
}

// refuseGRPC writes a refusal as a client of gRPC understands it: an answer of HTTP status 200 that is nothing but a head, with a grpc-status and a
// grpc-message in it (PROTOCOL-HTTP2.md of gRPC, "Trailers-Only"). Fields such as Sluice-Reason become metadata. The problem document is left out but
// for its sentence; metrics and logs keep the HTTP status.
func refuseGRPC(w outbound, r *filters.Response) {
	h := make(filters.Header, 0, len(r.Header)+2)
	for _, f := range r.Header {
		if !filters.EqualName(f.Name, "Content-Type") {
			h = append(h, f)
		}
	}
	var problem struct{ Detail string }
	json.Unmarshal(r.Body, &problem) // one that is none says nothing
	if problem.Detail == "" {
		problem.Detail = r.Reason.Title()
	}
	h.Add("Content-Type", "application/grpc")
	h.Add("Grpc-Status", strconv.Itoa(grpcCode(r.Reason, r.Status)))
	h.Add("Grpc-Message", grpcMessage(problem.Detail))
	w.Head(http.StatusOK, h, 0)
}

// Codes of google.rpc.Code.
const (
	grpcUnknown            = 2
	grpcInvalidArgument    = 3
	grpcDeadlineExceeded   = 4
	grpcAlreadyExists      = 6
	grpcPermissionDenied   = 7
	grpcResourceExhausted  = 8
	grpcFailedPrecondition = 9
	grpcAborted            = 10
	grpcUnimplemented      = 12
	grpcInternal           = 13
	grpcUnavailable        = 14
	grpcUnauthenticated    = 16
)

// grpcCode is the code of a refusal: by its reason where the status alone would tell the client to do the wrong thing, else by the status.
func grpcCode(reason filters.Reason, status int) int {
	switch reason {
	case filters.OutcomeUnknown: // to repeat it is of no use before somebody has resolved it
		return grpcFailedPrecondition
	case filters.ResponseNotReplayable: // it was done
		return grpcAlreadyExists
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return grpcInvalidArgument
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented: // there is no such method here
		return grpcUnimplemented
	case http.StatusConflict:
		return grpcAborted
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return grpcResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return grpcUnavailable
	case http.StatusGatewayTimeout:
		return grpcDeadlineExceeded
	}
	if status >= 500 {
		return grpcInternal
	}
	return grpcUnknown
}

// grpcMessage encodes a text as the protocol wants it: what is not printable ASCII, and the percent sign, by its bytes.
func grpcMessage(text string) string {
	const digit = "0123456789ABCDEF"
	b := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digit[c>>4], digit[c&15])
		}
	}
	return string(b)
}

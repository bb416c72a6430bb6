package gateway

import (
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// begin sets how long somebody waits for the response: the route's timeout, from the arrival of the
// request on, or less where a client of gRPC says so. A reply refuses what it says.
func (rt *route) begin(x *filters.Exchange) *filters.Reply {
	if rt.timeout > 0 {
		x.Deadline = x.Received.Add(rt.timeout)
	}
	if x.Version != "2" || !x.IsGRPC() { // there is no gRPC over HTTP/1.1
		return nil
	}
	text, ok := x.Header.Lookup("Grpc-Timeout")
	if !ok {
		return nil
	}
	d, ok := filters.ParseGRPCTimeout(text)
	if !ok || x.Header.Count("Grpc-Timeout") > 1 {
		return malformedTimeout()
	}
	x.SetClientDeadline(x.Received.Add(min(d, timeoutMax)))
	return nil
}

// timeoutMax is longer than anything lasts, and short enough to be added to a time.
const timeoutMax = 10 * 365 * 24 * time.Hour

// malformedTimeout refuses as servers of gRPC do: 400, and INTERNAL for the library.
func malformedTimeout() *filters.Reply {
	r := refusal(filters.BadRequest, "grpc-timeout is one to eight digits and a unit: H, M, S, m, u or n.")
	r.Header.Add("Grpc-Status", strconv.Itoa(int(filters.GRPCInternal)))
	return r
}

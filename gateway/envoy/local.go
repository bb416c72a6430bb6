package envoy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// local is a response that this process makes, in the making: Envoy gets it in one message.
type local struct {
	status int
	header filters.Header
	length int64 // of the body that is still to come; -1: not known
	begun  bool
	sent   bool
}

// Head begins the response. That of the service is passed on with the header as it is now, and is all said with it.
func (r *Request) Head(status int, h filters.Header, length int64) {
	if r.replied { // it was passed on
		return
	}
	if !r.Exchange.Response.Local && r.waits != 0 && r.waits != requestHead && r.waits != requestBody {
		_ = r.send(r.passResponse(h)) // an Envoy that has gone does not care
		r.replied, r.waits = true, 0
		return
	}
	r.local = local{status: status, header: h, length: length, begun: true}
	if r.unreplayable(h) {
		r.sendLocal(nil)
		return
	}
	if length == 0 || r.Exchange.Method == http.MethodHead {
		r.sendLocal(nil)
	}
}

// Write gives the body of a response of this process, which comes in one piece.
func (r *Request) Write(p []byte) (int, error) {
	if r.local.begun && !r.local.sent {
		r.sendLocal(p)
	}
	return len(p), nil
}

// Flush does nothing: a response is one message.
func (r *Request) Flush() {}

// Trailer ends a response of this process whose body was empty. Such a response has no trailer behind Envoy.
func (r *Request) Trailer(filters.Header) {
	if r.local.begun && !r.local.sent {
		r.sendLocal(nil)
	}
}

// CloseAfter is Envoy's business.
func (r *Request) CloseAfter() {}

// Abort breaks the stream off. Envoy fails the request.
func (r *Request) Abort() { r.broken = true }

// sendLocal has Envoy respond in place of the service.
func (r *Request) sendLocal(body []byte) {
	r.local.sent, r.replied, r.waits = true, true, 0
	h := r.local.header
	b := appendFields(r.mutation[:0], h, func(f *filters.Field) bool { return !message.HopByHop(f.Name) })
	grpcStatus, details := int64(-1), ""
	if text, ok := h.Lookup("Grpc-Status"); ok {
		if code, err := strconv.ParseUint(text, 10, 32); err == nil {
			grpcStatus = int64(code)
		}
	}
	if reason := h.Get("Sluice-Reason"); reason != "" {
		details = "sluice_" + reason // in Envoy's access log, as RESPONSE_CODE_DETAILS
	}
	r.mutation = b
	r.out = appendImmediate(r.out[:0], r.local.status, b, body, grpcStatus, details)
	_ = r.send(&r.out) // an Envoy that has gone does not care
}

// unreplayable puts a refusal in the place of a recorded response of gRPC with a message in it: in place of a service
// Envoy gives a client of gRPC a status and nothing else. h is the response's header.
func (r *Request) unreplayable(h filters.Header) bool {
	if !r.Exchange.IsGRPC() || !has(h, "Idempotent-Replayed") || has(h, "Grpc-Status") {
		return false
	}
	const reason = filters.ResponseNotReplayable
	code := filters.GRPCCodeOf(reason, reason.Status())
	r.local.status, r.local.header = http.StatusOK, filters.Header{
		{Name: "Content-Type", Value: "application/grpc"}, {Name: "Sluice-Reason", Value: string(reason)},
		{Name: "Grpc-Status", Value: strconv.Itoa(int(code))}, {Name: "Grpc-Message", Value: reason.Title()},
	}
	return true
}

// ClusterField is the field by which Envoy is told the cluster, on a route that leads to several services.
const ClusterField = "sluice-cluster"

// LeadTo has Envoy send the request to the cluster of a service: its own name, but for names that are of Envoy's own
// clusters.
func (r *Request) LeadTo(service string) {
	if strings.HasPrefix(service, "sluice.") {
		service = r.Exchange.Text(append(append(r.Exchange.Scratch(), "service "...), service...))
	}
	r.Exchange.Inject.Set(ClusterField, service)
	r.rerouted = true
}

// PassOn has Envoy send the request on as it came, and shows an interest in nothing more of it.
func (r *Request) PassOn() {
	_ = r.send(&passOn) // an Envoy that has gone does not care
	r.replied, r.ended, r.waits = true, true, 0
}

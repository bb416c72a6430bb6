package envoy

import (
	"net/http"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

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
	if !r.Exchange.Response.Local && r.waits >= onResponseHeaders {
		_ = r.send(r.passResponse(h)) // an Envoy that has gone does not care
		r.replied, r.waits = true, nothing
		return
	}
	r.local = local{status: status, header: h, length: length, begun: true}
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
	r.local.sent, r.replied, r.waits = true, true, nothing
	imm := &extproc.ImmediateResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(r.local.status)},
		Headers: &extproc.HeaderMutation{SetHeaders: make([]*corev3.HeaderValueOption, 0, len(r.local.header))},
		Body:    body,
	}
	for i := range r.local.header {
		f := &r.local.header[i]
		switch {
		case filters.EqualName(f.Name, "Grpc-Status"):
			if code, err := strconv.ParseUint(f.Value, 10, 32); err == nil {
				imm.GrpcStatus = &extproc.GrpcStatus{Status: uint32(code)}
			}
		case message.HopByHop(f.Name):
			continue
		}
		imm.Headers.SetHeaders = appendSet(imm.Headers.SetHeaders, f)
	}
	if !has(r.local.header, "Content-Type") { // Envoy would make it text/plain
		imm.Headers.RemoveHeaders = []string{"content-type"}
	}
	if reason := r.local.header.Get("Sluice-Reason"); reason != "" {
		imm.Details = "sluice_" + reason // in Envoy's access log, as RESPONSE_CODE_DETAILS
	}
	_ = r.send(&extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ImmediateResponse{
		ImmediateResponse: imm}}) // an Envoy that has gone does not care
}

// PassOn has Envoy send the request on as it came, and shows an interest in nothing more of it.
func (r *Request) PassOn() {
	_ = r.send(passOn) // an Envoy that has gone does not care
	r.replied, r.ended, r.waits = true, true, nothing
}

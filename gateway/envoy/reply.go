package envoy

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// The modes that a request goes on with. Envoy shows what is asked for here and nothing else; the request's head it
// has shown. They are never changed.
var (
	// withBody: the request's body, whole, then as withoutBody.
	withBody = modeOf(modev3.ProcessingMode_BUFFERED, modev3.ProcessingMode_SEND)
	// withoutBody: the client's trailer, and the head of the response.
	withoutBody = modeOf(modev3.ProcessingMode_NONE, modev3.ProcessingMode_SEND)
	// whole: as withoutBody for a request that has come to its end.
	whole = modeOf(modev3.ProcessingMode_NONE, modev3.ProcessingMode_SKIP)
	// responseToo: the body of the response, as much as Envoy has room for.
	responseToo = &modev3.ProcessingMode{
		RequestHeaderMode: modev3.ProcessingMode_SEND, ResponseHeaderMode: modev3.ProcessingMode_SEND,
		RequestTrailerMode: modev3.ProcessingMode_SEND,
		ResponseBodyMode:   modev3.ProcessingMode_BUFFERED_PARTIAL, ResponseTrailerMode: modev3.ProcessingMode_SEND,
	}
)

func modeOf(body modev3.ProcessingMode_BodySendMode, trailer modev3.ProcessingMode_HeaderSendMode) *modev3.ProcessingMode {
	return &modev3.ProcessingMode{
		RequestHeaderMode: modev3.ProcessingMode_SEND, RequestBodyMode: body, RequestTrailerMode: trailer,
		ResponseHeaderMode: modev3.ProcessingMode_SEND, ResponseBodyMode: modev3.ProcessingMode_NONE,
		ResponseTrailerMode: modev3.ProcessingMode_SKIP,
	}
}

// Replies that are the same for everybody. They are never changed.
var (
	passOn = &extproc.ProcessingResponse{
		Response: &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: &extproc.HeadersResponse{}},
		ModeOverride: &modev3.ProcessingMode{
			RequestHeaderMode: modev3.ProcessingMode_SEND, ResponseHeaderMode: modev3.ProcessingMode_SKIP,
			RequestTrailerMode: modev3.ProcessingMode_SKIP, ResponseTrailerMode: modev3.ProcessingMode_SKIP,
		},
	}
	askForBody = &extproc.ProcessingResponse{
		Response:     &extproc.ProcessingResponse_RequestHeaders{RequestHeaders: &extproc.HeadersResponse{}},
		ModeOverride: withBody,
	}
	askForResponseBody = &extproc.ProcessingResponse{
		Response:     &extproc.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extproc.HeadersResponse{}},
		ModeOverride: responseToo,
	}
)

// goOn lets the request go to the service.
func (r *Request) goOn() *extproc.ProcessingResponse {
	common := &extproc.CommonResponse{HeaderMutation: r.requestMutation()}
	if r.waits == onRequestBody {
		return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_RequestBody{
			RequestBody: &extproc.BodyResponse{Response: common}}}
	}
	mode := withoutBody
	if r.ended {
		mode = whole
	}
	return &extproc.ProcessingResponse{ModeOverride: mode, Response: &extproc.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extproc.HeadersResponse{Response: common}}}
}

// passBody lets the body of a response go on, whose trailer follows. What a service may not say goes out of its
// head now: behind the body it is too late.
func (r *Request) passBody() *extproc.ProcessingResponse {
	return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseBody{
		ResponseBody: &extproc.BodyResponse{Response: &extproc.CommonResponse{
			HeaderMutation: r.responseMutation(r.Exchange.Response.Header)}}}}
}

// passResponse lets the response go to the client, with the header as it is now.
func (r *Request) passResponse(h filters.Header) *extproc.ProcessingResponse {
	common := &extproc.CommonResponse{HeaderMutation: r.responseMutation(h)}
	switch r.waits {
	case onResponseBody:
		return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseBody{
			ResponseBody: &extproc.BodyResponse{Response: common}}}
	case onResponseTrailers:
		return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseTrailers{
			ResponseTrailers: &extproc.TrailersResponse{}}}
	}
	return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_ResponseHeaders{
		ResponseHeaders: &extproc.HeadersResponse{Response: common}}}
}

func trailerReply(remove []string) *extproc.ProcessingResponse {
	return &extproc.ProcessingResponse{Response: &extproc.ProcessingResponse_RequestTrailers{
		RequestTrailers: &extproc.TrailersResponse{HeaderMutation: &extproc.HeaderMutation{RemoveHeaders: remove}}}}
}

// requestMutation is what makes of the request's head, as Envoy has it, what the service is to see.
func (r *Request) requestMutation() *extproc.HeaderMutation {
	x := &r.Exchange
	m := &extproc.HeaderMutation{SetHeaders: make([]*corev3.HeaderValueOption, 0, len(x.Inject)+1)}
	for i := range r.request {
		name := r.request[i].Name
		if has(x.Header, name) || has(x.Inject, name) || message.HopByHop(name) {
			continue
		}
		m.RemoveHeaders = append(m.RemoveHeaders, name)
	}
	for i := range x.Inject {
		if f := &x.Inject[i]; f.Value != "" {
			m.SetHeaders = append(m.SetHeaders, set(f.Name, f.Value))
		}
	}
	if x.Path != r.path { // the service is to read what was matched
		target := x.Path
		if x.RawQuery != "" || r.query {
			target += "?" + x.RawQuery
		}
		m.SetHeaders = append(m.SetHeaders, set(":path", target))
	}
	return m
}

// responseMutation is what makes of the response's head, as Envoy has it, the one that the client gets.
func (r *Request) responseMutation(h filters.Header) *extproc.HeaderMutation {
	var m extproc.HeaderMutation
	for i := range r.response {
		if name := r.response[i].Name; !has(h, name) && !message.HopByHop(name) {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	for i := range h {
		if f := &h[i]; !message.HopByHop(f.Name) && !hasField(r.response, f) {
			m.SetHeaders = appendSet(m.SetHeaders, f)
		}
	}
	if m.RemoveHeaders == nil && m.SetHeaders == nil {
		return nil
	}
	return &m
}

// appendSet sets a field, or appends to one of that name that is set already.
func appendSet(to []*corev3.HeaderValueOption, f *filters.Field) []*corev3.HeaderValueOption {
	option := set(f.Name, f.Value)
	for _, other := range to {
		if filters.EqualName(other.Header.Key, f.Name) {
			option.AppendAction = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			break
		}
	}
	return append(to, option)
}

// set replaces a field. Names are in lower case, as Envoy has them.
func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(value)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func has(h filters.Header, name string) bool {
	for i := range h {
		if filters.EqualName(h[i].Name, name) {
			return true
		}
	}
	return false
}

func hasField(h filters.Header, f *filters.Field) bool {
	for i := range h {
		if filters.EqualName(h[i].Name, f.Name) && h[i].Value == f.Value {
			return true
		}
	}
	return false
}

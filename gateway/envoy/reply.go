package envoy

import (
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Replies that are the same for everybody: the modes that a request goes on with. Envoy shows what is asked for
// here and nothing else; the request's head it has shown. They are never changed.
var (
	// askForBody: the request's body, whole, then as goOnStreaming.
	askForBody = outgoing(appendMode(appendReply(nil, requestHead, nil),
		mode{requestBody: bufferedBody, requestTrailer: send, responseHead: send, responseTrailer: skip}))
	// askForResponseBody: the body of the response, as much of it as Envoy has room for.
	askForResponseBody = outgoing(appendMode(appendReply(nil, responseHead, nil),
		mode{requestTrailer: send, responseHead: send, responseBody: bufferedPartialBody, responseTrailer: send}))
	// passOn: nothing more.
	passOn = outgoing(appendMode(appendReply(nil, requestHead, nil),
		mode{requestTrailer: skip, responseHead: skip, responseTrailer: skip}))

	// goOnStreaming: the client's trailer, and the head of the response. goOnWhole: that head alone, for a request that
	// has come to its end.
	goOnStreaming = appendMode(nil, mode{requestTrailer: send, responseHead: send, responseTrailer: skip})
	goOnWhole     = appendMode(nil, mode{requestTrailer: skip, responseHead: send, responseTrailer: skip})
)

// goOn lets the request go to the service.
func (r *Request) goOn() *outgoing {
	r.requestMutation()
	var member []byte
	if r.rerouted {
		member = reroute
	}
	if r.waits == requestBody {
		r.out = appendReplyOver(r.out[:0], requestBody, r.mutation, member)
		return &r.out
	}
	r.out = appendReplyOver(r.out[:0], requestHead, r.mutation, member)
	if r.ended {
		r.out = append(r.out, goOnWhole...)
	} else {
		r.out = append(r.out, goOnStreaming...)
	}
	return &r.out
}

// passResponse lets the response go to the client, with the header as it is now. Behind its body that is too late.
func (r *Request) passResponse(h filters.Header) *outgoing {
	r.mutation = r.mutation[:0]
	if r.waits != responseTrailer {
		r.responseMutation(h)
	}
	r.out = appendReply(r.out[:0], r.waits, r.mutation)
	return &r.out
}

// requestMutation is what makes of the request's head, as Envoy has it, what the service is to see.
func (r *Request) requestMutation() {
	x := &r.Exchange
	b := r.mutation[:0]
	for i := range r.request {
		name := r.request[i].Name
		if has(x.Header, name) || has(x.Inject, name) || framed(name) {
			continue
		}
		b = appendRemoved(b, name)
	}
	b = appendFields(b, x.Inject, func(f *filters.Field) bool { return f.Value != "" })
	if x.Path != r.path { // the service is to read what was matched
		target := x.Path
		if x.RawQuery != "" || r.query {
			target += "?" + x.RawQuery
		}
		b = appendSet(b, ":path", target, false)
	}
	r.mutation = b
}

// framed reports whether a field belongs to the connection or the framing, which are Envoy's. What another server may
// take for such a field does not.
func framed(name string) bool {
	switch message.KindOf(name) {
	case message.Ordinary, message.HopByHopField, message.Folded:
		return false
	}
	return true
}

// responseMutation is what makes of the response's head, as Envoy has it, the one that the client gets.
func (r *Request) responseMutation(h filters.Header) {
	b := r.mutation[:0]
	for i := range r.response {
		if name := r.response[i].Name; !has(h, name) && !message.HopByHop(name) {
			b = appendRemoved(b, name)
		}
	}
	r.mutation = appendFields(b, h, func(f *filters.Field) bool {
		return !message.HopByHop(f.Name) && r.changed(h, f)
	})
}

// changed reports whether a field is not as the service sent it, or another one of its name is not.
func (r *Request) changed(h filters.Header, f *filters.Field) bool {
	if !hasField(r.response, f) {
		return true
	}
	for i := range h {
		if filters.EqualName(h[i].Name, f.Name) && !hasField(r.response, &h[i]) {
			return true
		}
	}
	return false
}

package envoy

import (
	"errors"
	"fmt"

	"github.com/sluice-gateway/sluice/filters"
)

// loadBody asks Envoy for the whole body and waits for it. It is called once at most, and before the request
// goes on.
func (r *Request) loadBody(int64) ([]byte, error) {
	if r.ended {
		return nil, nil
	}
	if r.declared > r.allowed {
		return nil, filters.ErrBodyTooLarge
	}
	announced := max(r.declared, 0)
	if !r.charge(announced) { // before it is on its way
		return nil, filters.ErrOverloaded
	}
	if err := r.send(&askForBody); err != nil {
		return nil, err
	}
	r.waits = 0
	m, err := r.next(r.server.BodyTimeout)
	if err != nil {
		if errors.Is(err, ErrEnded) {
			r.ctx.Cancel()
		}
		return nil, err
	}
	switch m.kind {
	case requestBody:
		r.waits, r.ended = requestBody, m.ends
		n := int64(len(m.body))
		if n > r.allowed {
			return nil, filters.ErrBodyTooLarge
		}
		if n > announced && !r.charge(n-announced) { // its length was not announced
			return nil, filters.ErrOverloaded
		}
		return m.body, nil
	case responseHead:
		// The request went on without its key being claimed. Nothing can be done for this one.
		r.broken, r.past = true, true
		r.server.hiding.add(r.stream.Context())
		r.server.warn(r.server.hidden, "Envoy sent a request on without showing its body: ext_proc needs "+
			"allow_mode_override; on this connection every request with a body is refused from now on",
			"route", r.Exchange.Route)
	default:
		r.broken = true
	}
	return nil, fmt.Errorf("%w: %d in place of the request's body", errProtocol, m.kind)
}

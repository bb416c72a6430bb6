package gateway

import (
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// splicer passes a body on from socket to socket, as far as both sides allow it: HTTP/1.1 in clear
// text. Its zero value never does.
type splicer struct {
	to   *http1.Request
	from *http1.Response
}

// begin reports whether the body can be spliced from its beginning, with what lies in its buffer.
func (s *splicer) begin(w outbound, from upstream.Response) bool {
	to, ok := w.(*http1.Request)
	if !ok {
		return false
	}
	if s.from, ok = from.(*http1.Response); !ok {
		return false
	}
	s.to = to
	return to.CanSplice(s.from)
}

// next is [http1.Request.Splice].
func (s *splicer) next() (ok, here bool, err error) {
	if s.to == nil {
		return false, true, nil
	}
	return s.to.Splice(s.from)
}

// over reports whether the body has been read to its end.
func (s *splicer) over() bool { return s.from.Over() }

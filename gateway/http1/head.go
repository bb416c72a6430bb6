package http1

import (
	"bytes"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// readHead reads until the head is parsed. The error is a [Fault] or one of the connection.
func (r *Request) readHead() error {
	in, limit := &r.in, r.c.srv.MaxHeader
	for late, seen := false, 0; ; late = true {
		for in.r < 4 && in.r+1 < in.w && in.b[in.r] == '\r' && in.b[in.r+1] == '\n' { // RFC 9112 §2.2
			in.r += 2
		}
		if begun := in.unread(); len(begun) == 0 || len(begun) == 1 && begun[0] == '\r' {
			// nothing of it yet
		} else if !late || in.w-in.r <= 1024 || headEnds(in.unread(), seen) {
			n, err := parseRequest(in.unread(), &r.Exchange, &r.head)
			if err == nil && n > limit {
				return tooLong(in.unread(), limit)
			}
			if err == nil {
				in.consume(n)
				return nil
			}
			if err != errMore {
				return err
			}
		}
		if !late {
			r.c.setReadDeadline(time.Now().Add(r.c.srv.HeaderTimeout))
		}
		seen = in.w - in.r
		switch in.room(limit) {
		case errFull:
			return tooLong(in.unread(), limit)
		case filters.ErrOverloaded:
			return faultOverloaded
		}
		if err := in.fill(r.c.nc); err != nil {
			return err
		}
	}
}

// headEnds reports whether what came behind the first seen bytes may end a head, so that it pays to
// parse it again.
func headEnds(b []byte, seen int) bool {
	b = b[max(seen-3, 0):]
	return bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n"))
}

// tooLong says what is too long: the target or the fields.
func tooLong(b []byte, limit int) *Fault {
	if i := bytes.IndexByte(b, '\n'); i < 0 || i > limit/2 {
		return faultURI
	}
	return faultLong
}

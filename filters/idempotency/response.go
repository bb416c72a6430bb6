package idempotency

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// lent are responses that lie in buffers of an exchange and are taken back when the store has its
// copy.
var lent = sync.Pool{New: func() any { return new(Response) }}

// lend returns the response as the record keeps it. It lies in the exchange's buffers, and takeBack
// ends its use: what is kept is a clone.
func (f *Filter) lend(x *filters.Exchange) *Response {
	r := &x.Response
	a := lent.Get().(*Response)
	a.Status, a.Replayable = r.Status, r.Whole
	a.Header = f.settings.appendKept(a.Header, r.Header)
	if _, dated := a.Header.Lookup("Date"); !dated { // RFC 9110 §5.6.7
		a.Header.Add("Date", x.Text(time.Now().UTC().AppendFormat(x.Scratch(), timeFormat)))
	}
	if r.Whole {
		a.Body = r.Body
		a.Trailer = f.settings.appendKept(a.Trailer, r.Trailer)
	}
	return a
}

func takeBack(a *Response) {
	clear(a.Header)
	clear(a.Trailer)
	*a = Response{Header: a.Header[:0], Trailer: a.Trailer[:0]}
	lent.Put(a)
}

// storedForms are buffers for the stored form of a response.
var storedForms = sync.Pool{New: func() any { return new([]byte) }}

// clone returns a copy that shares no memory with the response.
func (a *Response) clone() *Response {
	if a == nil {
		return nil
	}
	return &Response{
		Status: a.Status, Body: bytes.Clone(a.Body), Replayable: a.Replayable, Header: cloneFields(a.Header),
		Trailer: cloneFields(a.Trailer),
	}
}

func cloneFields(h filters.Header) filters.Header {
	c := h.Clone()
	for i := range c {
		c[i] = filters.Field{Name: strings.Clone(c[i].Name), Value: strings.Clone(c[i].Value)}
	}
	return c
}

const timeFormat = "Mon, 02 Jan 2006 15:04:05 GMT" // RFC 9110 §5.6.7

// appendKept appends the fields that are kept with a response.
func (s *Settings) appendKept(dst, h filters.Header) filters.Header {
	for _, field := range h {
		if !s.omits(field.Name) {
			dst = append(dst, field)
		}
	}
	return dst
}

// omits: the field is not kept with a response.
func (s *Settings) omits(name string) bool {
	for _, n := range s.OmitHeaders {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return notKept(name)
}

// notKept: what belongs to one connection or one client and not to the response.
func notKept(name string) bool {
	for _, n := range [...]string{
		"Set-Cookie", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "TE", "Trailer", "Upgrade",
		"Content-Length",
	} {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return false
}

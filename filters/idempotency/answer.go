package idempotency

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// lent are answers that lie in buffers of an exchange and are taken back when the store has its copy.
var lent = sync.Pool{New: func() any { return new(Answer) }}

// lend returns the response as the record keeps it. It lies in the exchange's buffers, and takeBack ends its use: whoever keeps it makes
// a clone.
func lend(x *filters.Exchange) *Answer {
	r := &x.Response
	a := lent.Get().(*Answer)
	a.Status, a.Replayable = r.Status, r.Whole
	dated := false
	for _, field := range r.Header {
		if notKept(field.Name) {
			continue
		}
		dated = dated || filters.EqualName(field.Name, "Date")
		a.Header = append(a.Header, field)
	}
	if !dated { // RFC 9110 §5.6.7
		a.Header.Add("Date", x.Text(time.Now().UTC().AppendFormat(x.Scratch(), "Mon, 02 Jan 2006 15:04:05 GMT")))
	}
	if r.Whole {
		a.Body = r.Body
	}
	return a
}

func takeBack(a *Answer) {
	clear(a.Header)
	*a = Answer{Header: a.Header[:0]}
	lent.Put(a)
}

// clone returns a copy that shares no memory with the answer.
func (a *Answer) clone() *Answer {
	if a == nil {
		return nil
	}
	c := &Answer{Status: a.Status, Body: bytes.Clone(a.Body), Replayable: a.Replayable, Header: a.Header.Clone()}
	for i := range c.Header {
		c.Header[i] = filters.Field{Name: strings.Clone(c.Header[i].Name), Value: strings.Clone(c.Header[i].Value)}
	}
	return c
}

// notKept: what belongs to one connection or one client and not to the answer.
func notKept(name string) bool {
	for _, n := range [...]string{"Set-Cookie", "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Content-Length"} {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return false
}

package message

import (
	"bytes"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Bounds of what a service may send before its response.
const (
	ResponseHeadMax = 256 << 10 // bytes of a head
	InterimMax      = 32        // interim responses (1xx)
)

// FieldsMax is how many field lines a header section or a trailer section may have.
const FieldsMax = 256

// WholeMax is the length up to which a body that has arrived whole is sent on in one piece, without
// a goroutine that streams it.
const WholeMax = 64 << 10

// Message is a request on its way to a service, beside the exchange's head.
type Message struct {
	// Bytes is the body when it has been read already, else Stream with its length (-1: not known).
	Bytes  []byte
	Stream Stream
	Length int64
	// Account is what the request draws on; nil bounds nothing.
	Account *budget.Account
	// Expects: the service is asked whether it wants the body before it is read from the stream.
	Expects bool
	// Interim takes the service's interim responses; nil drops them.
	Interim func(status int, h filters.Header)
	// Timeout is that of each attempt in place of the service's; 0: the service's.
	Timeout time.Duration
	// Until is the client's own end of the whole exchange, behind the head too; zero: it has named none.
	// HTTP/2 alone has such requests.
	Until time.Time
	// Upgrade is the protocol that the client asks to go on with; "" is none.
	Upgrade string
	// Trailer returns the fields behind the stream's body, after its end; nil is none. Announced is
	// what its Trailer field said of them.
	Trailer   func() filters.Header
	Announced string
	// Reserved reports whether a field may not come behind the body on top of what [InTrailer] says,
	// since the configuration gives it a meaning in the head; nil is none.
	Reserved func(name string) bool
}

// EndTrailer returns the fields that go out behind the stream's body, after its end.
func (m *Message) EndTrailer() filters.Header {
	if m.Trailer == nil {
		return nil
	}
	h := m.Trailer()
	if m.Reserved != nil {
		h.DelFunc(m.Reserved)
	}
	h.DelFunc(func(name string) bool { return !InTrailer(name) })
	return h
}

// Streams reports whether the body is read while it is sent on.
func (m *Message) Streams() bool { return m.Stream != nil && m.Length != 0 }

// BodyLength is the length of the body, -1 when it is not known.
func (m *Message) BodyLength() int64 {
	if m.Stream == nil {
		return int64(len(m.Bytes))
	}
	return m.Length
}

// Announces reports whether a request says its length: methods that define a meaning for a body say
// that there is none (RFC 9110 §8.6).
func Announces(method string, length int64) bool {
	return length > 0 || length == 0 && (method == "POST" || method == "PUT" || method == "PATCH")
}

// Sendable reports whether a request's method, target and host have only bytes that they may have,
// so that none of them ends its line.
func Sendable(x *filters.Exchange, host string) bool {
	return Token(x.Method) && x.Path != "" && Visible(x.Path) && Visible(x.RawQuery) && Visible(host)
}

// Stream is a body that is read while it is sent on.
type Stream interface {
	io.Reader
	Interrupter // ends a Read that waits
}

// Interrupter is something that waits for a peer and can be woken: it then finds its connection
// broken.
type Interrupter interface{ Interrupt() }

// InMemory is a body that has been read already and is streamed all the same, since the service may
// refuse it before it has it all.
type InMemory struct{ bytes.Reader }

// NewInMemory streams b.
func NewInMemory(b []byte) *InMemory {
	s := &InMemory{}
	s.Reset(b)
	return s
}

// Interrupt implements [Interrupter]: no Read waits.
func (*InMemory) Interrupt() {}

// Failure is an exchange without a response, and what is known of it.
type Failure struct {
	Cause  error
	Sent   bool // a byte of the request went out
	Silent bool // not a byte of a response came
	Stale  bool // the connection proved closed before anything was sent: another one may serve
	Client bool // the client's body broke, and not the service
}

func (f *Failure) Error() string { return f.Cause.Error() }
func (f *Failure) Unwrap() error { return f.Cause }

// ForwardsInterim reports whether an interim response of that status is passed on. 100 (Continue)
// is not: it comes from reading the body; nor is 101, which ends HTTP on the connection.
func ForwardsInterim(status int) bool { return status > 101 && status <= 199 }

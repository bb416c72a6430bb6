package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// buffer reads the body whole for the filters, with its trailer. Where it is longer than they keep,
// or a stream, or there is no room for it, the rest is left to be passed on: the service has done
// what it was asked to, and its client is to know. It ends by silence, and for a claim with the
// longest time that the claim can last: a service that trickles holds no key for longer.
func (f *forward) buffer(x *filters.Exchange, in inbound, e result, kind streamKind) result {
	e.read, x.Response.Asked = e.response.Next(), time.Time{} // what follows may take its time
	for {
		first, length := e.read, int64(len(e.read))
		if e.kept != nil {
			first, length = e.kept.Next(), e.kept.Len()
		}
		if length > x.BufferBody || kind == callOrStream && streamsGRPC(e.response, first, length, x.BufferBody) {
			return f.pass(x, in, e, kind)
		}
		// No room behind the announced length: all that comes then is the end, on HTTP/2 in a frame
		// of its own.
		var room []byte
		var err error
		if length != e.length {
			if room, err = e.room(); err != nil {
				f.overload.responseNotKept(x)
				return f.pass(x, in, e, kind)
			}
		}
		n, err := e.response.Read(room)
		if n > 0 {
			e.kept.Add(n)
		}
		if err == io.EOF {
			break
		}
		if err == nil && !x.Logical.Until.IsZero() && time.Now().After(x.Logical.Until) {
			err = errTrickles
		}
		if err != nil {
			failed := f.failed(x, readFailure(x, err, e.response), true)
			failed.response, failed.kept = e.response, e.kept // to be closed
			return failed
		}
	}
	body := e.read
	if e.kept != nil {
		var err error
		if body, err = e.kept.Bytes(); err != nil {
			f.overload.responseNotKept(x)
			return f.pass(x, in, e, kind)
		}
	}
	x.Response.Body, x.Response.Whole, x.Response.Trailer = body, true, e.response.Trailer()
	return e
}

var wholes = sync.Pool{New: func() any { return new(message.Whole) }}

// room returns where to read more of the body, behind what was read of it, which is moved there.
func (e *result) room() ([]byte, error) {
	if e.kept == nil {
		e.kept = wholes.Get().(*message.Whole)
		e.kept.Begin(e.account, e.length)
		for rest := e.read; len(rest) > 0; {
			room, err := e.kept.Room()
			if err != nil {
				e.release()
				return nil, err
			}
			n := copy(room, rest)
			e.kept.Add(n)
			rest = rest[n:]
		}
	}
	return e.kept.Room()
}

// each gives what was read of the body, until do returns false.
func (e *result) each(do func(p []byte) bool) bool {
	if e.kept != nil {
		return e.kept.Each(do)
	}
	return do(e.read)
}

// release gives the memory of what was kept back. Nothing refers to the response's body any more.
func (e *result) release() {
	if e.kept != nil {
		e.kept.Release()
		wholes.Put(e.kept)
		e.kept = nil
	}
}

// How long a response of gRPC is held back until it is whole.
const (
	// lastWait is for what follows a whole message. The libraries send the message of a unary call
	// and the status behind it in one go, so all that it has to cover is a busy machine. A stream's
	// first message comes that much later.
	lastWait = 100 * time.Millisecond
	// firstWait is for the first byte behind a head that came alone. That of a unary call is sent
	// early by the few services that ask for it; the client of a stream may want to see it before
	// anything happens.
	firstWait = time.Second
)

// streamsGRPC reports whether a response of gRPC, of which so much has come, with those bytes first,
// is passed on as it comes, since it is a stream or looks like one: it has a second message, or is longer than limit,
// or nothing comes while the client may wait for what is there. A unary one has one message at most
// and ends behind it.
//
// A call that is mistaken for a stream is executed all the same and recorded as such; only its
// response is not recorded.
func streamsGRPC(a upstream.Response, first []byte, length, limit int64) bool {
	const prefix = 5 // a flag, and the length of the message
	wait := firstWait
	if a.Uploading() { // a call whose client goes on when it has seen the head
		wait = lastWait
	}
	if len(first) >= prefix {
		switch size := prefix + int64(binary.BigEndian.Uint32(first[1:])); {
		case size > limit || length > size:
			return true
		case length == size:
			wait = lastWait
		default:
			return false // a part of a message is of no use to the client
		}
	}
	waits, ok := a.(interface{ Await(d time.Duration) bool })
	return ok && !waits.Await(wait) // over HTTP/1.1 there is no gRPC
}

// errTrickles is a body that did not end as long as the claim on its record could last.
var errTrickles = fmt.Errorf("the body has not ended within maxInFlight: %w", os.ErrDeadlineExceeded)

// readFailure says why a body could not be read to its end, with the cause and where it came from.
func readFailure(x *filters.Exchange, cause error, from upstream.Response) error {
	why := upstream.ErrFailed
	var timeout interface{ Timeout() bool }
	switch err := x.Context().Err(); {
	case err == nil && !x.ClientDeadline().IsZero() && time.Now().After(x.ClientDeadline()):
		why = upstream.ErrDeadline
	case errors.Is(err, context.DeadlineExceeded): // the gateway's own call; clients have none here
		why = upstream.ErrTimeout
	case err != nil:
		why = upstream.ErrClientGone
	case errors.As(cause, &timeout) && timeout.Timeout():
		why = upstream.ErrTimeout
	}
	return fmt.Errorf("%w: endpoint %s, in the body: %w", why, from.Endpoint(), cause)
}

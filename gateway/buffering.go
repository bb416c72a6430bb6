package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// buffer reads the body whole for the filters, with its trailer. Where it is longer than they keep,
// or a stream, the rest is left to be passed on. It ends by silence, and for a claim with the
// longest time that the claim can last: a service that trickles holds no key for longer.
func (f *forward) buffer(x *filters.Exchange, in inbound, e result, kind streamKind) result {
	buffered := e.response.Next()
	for {
		if int64(len(buffered)) > x.BufferBody ||
			kind == callOrStream && streamsGRPC(e.response, buffered, x.BufferBody) {
			e.read = buffered
			return f.pass(x, in, e, kind)
		}
		// No room behind the announced length: all that comes then is the end, on HTTP/2 in a frame
		// of its own.
		var room []byte
		if int64(len(buffered)) != e.length {
			if cap(buffered) == len(buffered) {
				buffered = append(buffered, 0)[:len(buffered)]
			}
			room = buffered[len(buffered):cap(buffered)]
		}
		n, err := e.response.Read(room)
		buffered = buffered[:len(buffered)+n]
		if err == io.EOF {
			break
		}
		if err == nil && !x.Logical.Until.IsZero() && time.Now().After(x.Logical.Until) {
			err = errTrickles
		}
		if err != nil {
			failed := f.failed(x, readFailure(x, err, e.response), true)
			failed.response = e.response // to be closed
			return failed
		}
	}
	x.Response.Body, x.Response.Whole, x.Response.Trailer = buffered, true, e.response.Trailer()
	return e
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

// streamsGRPC reports whether a response of gRPC, of which buffered has come, is passed on as it
// comes, since it is a stream or looks like one: it has a second message, or is longer than limit,
// or nothing comes while the client may wait for what is there. A unary one has one message at most
// and ends behind it.
//
// A call that is mistaken for a stream is executed all the same and recorded as such; only its
// response is not recorded.
func streamsGRPC(a upstream.Response, buffered []byte, limit int64) bool {
	const prefix = 5 // a flag, and the length of the message
	wait := firstWait
	if a.Uploading() { // a call whose client goes on when it has seen the head
		wait = lastWait
	}
	if len(buffered) >= prefix {
		switch size := prefix + int64(binary.BigEndian.Uint32(buffered[1:])); {
		case size > limit || int64(len(buffered)) > size:
			return true
		case int64(len(buffered)) == size:
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
	case errors.Is(err, context.DeadlineExceeded): // the gateway's own call; clients have none here
		why = upstream.ErrTimeout
	case err != nil:
		why = upstream.ErrClientGone
	case errors.As(cause, &timeout) && timeout.Timeout():
		why = upstream.ErrTimeout
	}
	return fmt.Errorf("%w: endpoint %s, in the body: %w", why, from.Endpoint(), cause)
}

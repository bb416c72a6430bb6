package message

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Outgoing is what is known of a response on its way to the client: what its head announced, and
// whether it went out. Its zero value is a response that has not begun.
type Outgoing struct {
	Headed   bool  // the head was written
	Bodiless bool  // no body follows, whatever the fields say
	Aborted  bool  // it was broken off
	Err      error // of writing
	sized    bool  // the length was announced
	left     int64 // of it
	sent     int64 // bytes of the body that were written
}

// Begin takes the head of the response; length is that of the body, -1 when it is not known.
func (o *Outgoing) Begin(method string, status int, length int64) {
	o.Headed, o.Bodiless = true, HasNoBody(method, status)
	o.sized = length >= 0 && !o.Bodiless
	if o.left = 0; o.sized {
		o.left = length
	}
}

// Piece takes a piece of the body of n bytes that is to be written. The error, which stays, is
// [io.ErrShortWrite] when the body is longer than was announced.
func (o *Outgoing) Piece(n int) error {
	if o.sized {
		if int64(n) > o.left {
			o.Err = io.ErrShortWrite
			return o.Err
		}
		o.left -= int64(n)
	}
	o.sent += int64(n)
	return nil
}

// Sent returns how many bytes of the body were written.
func (o *Outgoing) Sent() int64 { return o.sent }

// Short reports whether a part of the announced body has not been written.
func (o *Outgoing) Short() bool { return o.left > 0 }

// Broken reports whether the response cannot be ended so that the client takes it for whole.
func (o *Outgoing) Broken() bool { return !o.Headed || o.Aborted || o.left > 0 }

// date is the text of a second.
type date struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[date]

// Date is the value of a Date field (RFC 9110 §6.6.1). It is formatted once a second.
func Date(now time.Time) string {
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

package http2

// endedKept is how many streams that were ended by this side are remembered.
const endedKept = 64

// endedStreams are the last streams that were ended by this side, and of which something may still
// be under way: frames on them are ignored, but for those that were malformed from the beginning.
type endedStreams struct {
	list [endedKept]endedStream
	next int
}

// endedStream is one of them. After a reset for a fault nothing more is said of it. One whose
// response was whole before its request was is still held to what a request may be: its client
// learns of a fault whichever came first.
type endedStream struct {
	id                 uint32
	answered           bool
	send               sendWindow
	declared, received int64
}

// answered is a stream whose response is whole while its request is not.
func answered(s *stream) endedStream {
	return endedStream{id: s.id, answered: true, send: s.flow.send, declared: s.declared, received: s.received}
}

// keepEnded remembers a stream that this side ends.
func (c *conn) keepEnded(e endedStream) {
	if old := c.endedStream(e.id); old != nil {
		*old = e
		return
	}
	if c.ended == nil {
		c.ended = &endedStreams{}
	}
	c.ended.list[c.ended.next%endedKept] = e
	c.ended.next++
}

// endedStream returns what is remembered of a stream, nil when it is nothing.
func (c *conn) endedStream(id uint32) *endedStream {
	if c.ended == nil {
		return nil
	}
	for i := range c.ended.list {
		if e := &c.ended.list[i]; e.id == id {
			return e
		}
	}
	return nil
}

// data takes a frame of n bytes and returns what is wrong with it.
func (e *endedStream) data(n int, end bool) code {
	if !e.answered {
		return noError
	}
	e.received += int64(n)
	if e.declared >= 0 && (e.received > e.declared || end && e.received < e.declared) {
		return protocolError
	}
	return noError
}

// windowUpdate takes an increment and returns what is wrong with it.
func (e *endedStream) windowUpdate(n int) code {
	if !e.answered {
		return noError
	}
	return e.send.update(n)
}

// trailer takes the fields that were decoded behind the request's body; false when they are not a
// trailer section.
func (e *endedStream) trailer(d *headDecoder, end bool) bool {
	return !e.answered || end && !d.tooLong && (e.declared < 0 || e.received == e.declared) && soundTrailer(d.fields)
}

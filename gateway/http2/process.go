package http2

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// processFrame handles a frame.
func (c *conn) processFrame(h *frameHeader, p []byte) error {
	if c.blockID != 0 && (h.kind != frameContinuation || h.id != c.blockID) {
		return connError{protocolError, "a head is interrupted by another frame"}
	}
	if !c.settled && h.kind != frameSettings {
		return connError{protocolError, "the first frame is not SETTINGS"}
	}
	switch h.kind {
	case frameData:
		return c.processData(h, p)
	case frameHeaders:
		return c.processHeaders(h, p)
	case frameContinuation:
		return c.processContinuation(h, p)
	case framePushPromise:
		return connError{protocolError, "a push, which was not allowed"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.countIdle(); err != nil {
		return err
	}
	switch h.kind {
	case frameSettings:
		return c.processSettings(h, p)
	case frameWindowUpdate:
		return c.processWindowUpdate(h, p)
	case frameReset:
		return c.processReset(h, p)
	case framePing:
		return c.processPing(h, p)
	case frameGoAway:
		return c.processGoAway(h, p)
	case framePriority:
		return c.processPriority(h, p)
	}
	return nil // unknown frames are ignored (RFC 9113 §5.5)
}

// countIdle counts a frame that makes no progress.
func (c *conn) countIdle() error {
	if !c.idleFrames.add(idleFramesMax, idleFramesRate) {
		return connError{enhanceYourCalm, "too many frames that make no progress"}
	}
	return nil
}

// countProgress counts a frame that makes some.
func (c *conn) countProgress() { c.idleFrames.take(8) }

// unused reports whether no message has gone over a stream yet.
func (c *conn) unused(id uint32) bool {
	return id > c.lastID || id%2 == 0
}

func (c *conn) processData(h *frameHeader, p []byte) error {
	data, err := unpad(h, p)
	if err != nil {
		return err
	}
	if h.id == 0 {
		return connError{protocolError, "data on no stream"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.flow.receive.receive(h.length) {
		return connError{flowControlError, "more data than the connection's window"}
	}
	s := c.streams[h.id]
	if s == nil || len(data) == 0 && !h.has(flagEndStream) {
		if err := c.countIdle(); err != nil {
			return err
		}
	} else {
		c.countProgress()
	}
	if s == nil {
		c.consume(h.length)
		if c.unused(h.id) {
			return connError{protocolError, "data on a stream without a head"}
		}
		why := streamClosed
		if e := c.endedStream(h.id); e != nil {
			why = e.data(len(data), h.has(flagEndStream))
		}
		if why != noError {
			return c.refuseLocked(h.id, why)
		}
		return nil
	}
	c.consume(h.length - len(data))
	if why := s.receive(h, data); why != noError {
		return c.refuseLocked(s.id, why)
	}
	return nil
}

func (c *conn) processHeaders(h *frameHeader, p []byte) error {
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	if h.id == 0 {
		return connError{protocolError, "a head on no stream"}
	}
	malformed := false
	if h.has(flagPriority) {
		if len(p) < 5 {
			return connError{frameSizeError, "a priority of less than five bytes"}
		}
		if binary.BigEndian.Uint32(p)&idMax == h.id {
			malformed = true // refused once the head has been decoded
		}
		p = p[5:]
	}
	c.headDecoder.begin(h.has(flagEndStream))
	if h.has(flagEndHeaders) {
		if err := c.decode(p); err != nil {
			return err
		}
		if malformed {
			return c.refuseHead(h.id)
		}
		return c.headers(h.id)
	}
	c.blockID, c.fragments = h.id, 1
	if !c.keepFragment(p) {
		return errNoRoom
	}
	if malformed {
		return connError{protocolError, "a stream that depends on itself"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blockSince = time.Now()
	return nil
}

// refuseHead refuses a stream with a malformed head, and counts it as used.
func (c *conn) refuseHead(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server {
		c.lastID = max(c.lastID, id)
	}
	return c.refuseLocked(id, protocolError)
}

func (c *conn) processContinuation(h *frameHeader, p []byte) error {
	if c.blockID == 0 {
		return connError{protocolError, "a continuation of no head"}
	}
	if c.fragments++; c.fragments > fragmentsMax || len(c.block)+len(p) > 2*c.listMax+frameMax {
		return connError{enhanceYourCalm, "a head in too many frames"}
	}
	if !c.keepFragment(p) {
		return errNoRoom
	}
	if !h.has(flagEndHeaders) {
		return nil
	}
	c.blockID = 0
	c.mu.Lock()
	c.blockSince = time.Time{}
	c.mu.Unlock()
	err := c.decode(c.block)
	c.endBlock()
	if err != nil {
		return err
	}
	return c.headers(h.id)
}

// keepFragment appends a part of a head to what has come of it.
func (c *conn) keepFragment(p []byte) bool {
	c.block = append(c.block, p...)
	more := cap(c.block) - c.counted
	if more > 0 && !c.charge(more) {
		return false
	}
	c.counted += more
	return true
}

// endBlock gives the memory of a head that came in several frames back.
func (c *conn) endBlock() {
	c.discharge(c.counted)
	c.block, c.counted = nil, 0
}

// headers passes a decoded head to its stream.
func (c *conn) headers(id uint32) error {
	err := c.side.processHead(id, c.blockEnd)
	if cap(c.fields) > 2*message.FieldsMax {
		c.fields = nil
	}
	clear(c.fields)
	return err
}

func (c *conn) processSettings(h *frameHeader, p []byte) error {
	switch {
	case h.id != 0:
		return connError{protocolError, "settings of a stream"}
	case h.has(flagAck) && len(p) != 0:
		return connError{frameSizeError, "an acknowledgement with a payload"}
	case h.has(flagAck):
		if !c.settled {
			return connError{protocolError, "an acknowledgement before the settings"}
		}
		return nil
	case len(p)%6 != 0:
		return connError{frameSizeError, "settings that are cut short"}
	}
	first := !c.settled
	c.settled = true
	if first && !c.server {
		c.peerMax = windowMax // unless it says something else
	}
	window := c.flow.initial
	for ; len(p) > 0; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingHeaderTableSize:
			c.table.allow(value)
		case settingEnablePush:
			if value > 1 || value == 1 && !c.server {
				return connError{protocolError, "push is neither on nor off"}
			}
		case settingMaxStreams:
			c.peerMax = int(min(value, windowMax))
		case settingInitialWindow:
			if value > windowMax {
				return connError{flowControlError, "a window that is too large"}
			}
			window = int(value)
		case settingMaxFrame:
			if value < frameMax || value > 1<<24-1 {
				return connError{protocolError, "a frame size out of range"}
			}
		}
	}
	change := c.flow.resize(window)
	for _, s := range c.streams {
		if !s.flow.send.grow(change) {
			return connError{flowControlError, "a window that is too large"}
		}
	}
	if first {
		c.side.settledNow()
	}
	c.buffer().b = appendFrameHeader(c.buffer().b, 0, frameSettings, flagAck, 0)
	c.flow.wakeWriters(c.buffered())
	return c.sendControl()
}

func (c *conn) processWindowUpdate(h *frameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{frameSizeError, "a window update of another length than four"}
	}
	n := int(binary.BigEndian.Uint32(p) & windowMax)
	if h.id == 0 {
		if why := c.flow.send.update(n); why != noError {
			return connError{why, "a window update of nothing, or beyond the largest window"}
		}
		c.flow.wakeWriters(c.buffered())
		return nil
	}
	s := c.streams[h.id]
	if s == nil {
		if c.unused(h.id) {
			return connError{protocolError, "a window update of a stream without a head"}
		}
		if e := c.endedStream(h.id); e != nil {
			if why := e.windowUpdate(n); why != noError {
				return c.refuseLocked(h.id, why)
			}
		}
		return nil
	}
	if why := s.flow.send.update(n); why != noError {
		return c.refuseLocked(h.id, why)
	}
	c.flow.wakeWriters(c.buffered())
	return nil
}

func (c *conn) processReset(h *frameHeader, p []byte) error {
	switch {
	case len(p) != 4:
		return connError{frameSizeError, "a reset of another length than four"}
	case h.id == 0 || c.unused(h.id):
		return connError{protocolError, "a reset of a stream without a head"}
	}
	s := c.streams[h.id]
	if s == nil {
		return nil
	}
	s.resetByPeer(code(binary.BigEndian.Uint32(p)))
	if s.responded { // browsers and gRPC's clients end streams so of which they have seen enough
		return nil
	}
	return c.countReset()
}

func (c *conn) processPing(h *frameHeader, p []byte) error {
	switch {
	case len(p) != 8:
		return connError{frameSizeError, "a ping of another length than eight"}
	case h.id != 0:
		return connError{protocolError, "a ping of a stream"}
	case h.has(flagAck):
		c.side.pingAcked()
		return nil
	}
	c.buffer().b = appendPing(c.buffer().b, flagAck, p)
	return c.sendControl()
}

// sendControl sends a response to a control frame; for a peer that takes none of them not any
// number is kept.
func (c *conn) sendControl() error {
	if n := c.buffered(); n > controlMax || n > outMax && !c.chargeOut() {
		return connError{enhanceYourCalm, "the responses to control frames are not taken"}
	}
	c.startWriter()
	return nil
}

// errGone ends a stream that the peer has not processed and never will.
var errGone = errors.New("http2: the peer goes away and has not seen the stream")

func (c *conn) processGoAway(h *frameHeader, p []byte) error {
	switch {
	case h.id != 0:
		return connError{protocolError, "GOAWAY on a stream"}
	case len(p) < 8:
		return connError{frameSizeError, "a GOAWAY that is cut short"}
	}
	if c.server {
		return nil // it opens no more streams; the connection ends when it closes, or idles
	}
	if c.closing == nil {
		c.closing = errGone
	}
	last := binary.BigEndian.Uint32(p) & idMax
	for id, s := range c.streams {
		if id > last {
			s.unprocessed = true
			c.remove(s, errGone)
		}
	}
	return nil
}

func (c *conn) processPriority(h *frameHeader, p []byte) error {
	switch {
	case h.id == 0:
		return connError{protocolError, "a priority of no stream"}
	case len(p) != 5:
		return c.refuseLocked(h.id, frameSizeError)
	case binary.BigEndian.Uint32(p)&idMax == h.id:
		return c.refuseLocked(h.id, protocolError)
	}
	return nil
}

package http2

import (
	"runtime"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// outMax is how many bytes of bodies may wait to be written; a stream with more waits.
const outMax = 64 << 10

// outFree is how much of a buffer is not counted: so much each connection may write whatever else
// there is, or nothing would ever be given back.
const outFree = 4 << 10

type outBuffer struct {
	b       []byte
	counted int // bytes of b
}

func newOutBuffer() *outBuffer { return &outBuffer{b: make([]byte, 0, outFree)} }

var outBuffers = sync.Pool{New: func() any { return newOutBuffer() }}

// writer is the sending side of a connection. Frames are collected in one buffer, and a goroutine
// that lives as long as there is something to send writes them: it lets other goroutines run first,
// so that one system call takes the frames of many streams.
type writer struct {
	out          *outBuffer // nil when there is nothing to send
	table        tableSize  // of the peer's decoder
	batch        uint32     // number of that buffer
	writing      bool
	broken       bool
	sending      bool      // in a write to the socket
	idle         sync.Cond // signals that nothing is being written
	writeTimeout time.Duration
	writeUntil   time.Time
	send         func() // write; made once
	timer        *time.Timer
	timerRuns    bool // timer runs
}

// headDelay is how long a head waits for the beginning of its body, so that both go out in one
// piece.
const headDelay = time.Millisecond

func (c *conn) buffer() *outBuffer {
	if c.out == nil {
		c.out = outBuffers.Get().(*outBuffer)
		if !c.chargeOut() {
			outBuffers.Put(c.out)
			c.out = newOutBuffer()
		}
		c.batch++
	}
	return c.out
}

// buffered is how much waits to be written.
func (c *conn) buffered() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

// startWriter has the buffer sent.
func (c *conn) startWriter() {
	if c.writing || c.out == nil || c.broken {
		return
	}
	c.writing = true
	go c.send()
}

// startWriterSoon has it sent after headDelay, unless it is sent before.
func (c *conn) startWriterSoon() {
	if c.timerRuns || c.writing || c.out == nil || c.broken {
		return
	}
	c.timerRuns = true
	if c.timer == nil {
		c.timer = time.AfterFunc(headDelay, c.startWriterLate)
	} else {
		c.timer.Reset(headDelay)
	}
}

func (c *conn) startWriterLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timerRuns = false
	c.startWriter()
}

// write sends until there is nothing left.
func (c *conn) write() {
	runtime.Gosched()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out != nil && !c.broken {
		out := c.out
		c.out = nil
		c.flow.wakeWriters(c.buffered())
		// Not for each: it costs as much as a frame.
		if now := time.Now(); !c.finishing && now.Add(c.writeTimeout).After(c.writeUntil) {
			c.writeUntil = now.Add(c.writeTimeout + c.writeTimeout/3)
			c.nc.SetWriteDeadline(c.writeUntil) // fails only for a closed connection
		}
		c.sending = true
		c.mu.Unlock()
		_, err := c.nc.Write(out.b)
		c.dropOut(out)
		c.mu.Lock()
		c.sending = false
		if err != nil {
			c.broken = true
			c.failStreams(err)
			c.nc.SetReadDeadline(message.Past) // the reader ends it; fails only for a closed connection
		}
	}
	if c.broken && c.out != nil {
		c.dropOut(c.out)
		c.out = nil
	}
	c.writing = false
	c.idle.Broadcast()
}

// awaitWritten waits until all has been sent, or cannot be.
func (c *conn) awaitWritten() {
	for c.writing {
		c.idle.Wait()
	}
}

// beginHead begins a HEADERS frame and returns where.
func (c *conn) beginHead(s *stream) (at int) {
	out := c.buffer()
	at = len(out.b)
	out.b = c.table.appendUpdates(appendFrameHeader(out.b, 0, frameHeaders, flagEndHeaders, s.id))
	return at
}

// endHead ends it. What does not fit in one frame goes into others.
func (c *conn) endHead(s *stream, at int, flags uint8) {
	out := c.out
	n := len(out.b) - at - frameHeaderLen
	if n > frameMax {
		block := append([]byte(nil), out.b[at+frameHeaderLen:]...)
		out.b = appendFrameHeader(out.b[:at], frameMax, frameHeaders, flags, s.id)
		out.b = append(out.b, block[:frameMax]...)
		for block = block[frameMax:]; ; block = block[frameMax:] {
			if len(block) <= frameMax {
				out.b = append(appendFrameHeader(out.b, len(block), frameContinuation, flagEndHeaders, s.id), block...)
				break
			}
			out.b = append(appendFrameHeader(out.b, frameMax, frameContinuation, 0, s.id), block[:frameMax]...)
		}
	} else {
		out.b[at], out.b[at+1], out.b[at+2] = byte(n>>16), byte(n>>8), byte(n)
		out.b[at+4] |= flags
	}
	c.chargeOut() // or the next one waits
	s.lastBatch, s.lastAt = c.batch, at
	s.localEnded = flags&flagEndStream != 0
	c.countProgress()
}

// endStream ends our side of a stream: with its last frame where that has not been sent yet, else
// with an empty one.
func (c *conn) endStream(s *stream) {
	if s.localEnded {
		return
	}
	s.localEnded = true
	if c.out != nil && s.lastBatch == c.batch {
		c.out.b[s.lastAt+4] |= flagEndStream
		return
	}
	out := c.buffer()
	out.b = appendFrameHeader(out.b, 0, frameData, flagEndStream, s.id)
}

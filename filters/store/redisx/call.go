package redisx

import (
	"context"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
)

// Call is one run of a script, with everything that it is made of, so that a busy store allocates
// little. Calls come from [NewCall] and go back with [Client.Run] or [Call.Free]. A call belongs to
// its caller until Run; while it is in a batch it belongs to the batcher as well, whose sender may
// use it after the caller has left. So nothing in it is the caller's.
type Call struct {
	// Buffer holds the keys and then the argument. The caller appends to it, and calls EndKey after
	// each key.
	Buffer []byte

	keyEnds [2]int
	keyed   int // how many keys the buffer has
	script  *Script
	sent    int  // how many of the keys are sent
	whole   bool // the script's text is sent, and not its name

	reply string // what the script replied
	fault error  // why there is no reply, or, of a script that was run, [ErrNotReplicated]

	began, deadline time.Time
	hurried         bool        // its caller allows it less than half of the client's timeout
	signal          chan signal // from the batcher, to a queued call
	leads           *write      // the write that it is to send
	timer           *time.Timer
	abandoned       bool // its caller has left while it was being sent
}

// spareBufferMax is how large a buffer is kept for the next call.
const spareBufferMax = 16 << 10

var calls = sync.Pool{New: func() any { return makeCall() }}

func makeCall() *Call {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &Call{signal: make(chan signal, 1), timer: timer}
}

// NewCall begins a call.
func NewCall() *Call {
	c := calls.Get().(*Call)
	c.Buffer, c.keyed = c.Buffer[:0], 0
	return c
}

// EndKey makes what was appended to the buffer since the last key, or since the beginning, the next
// key. A call has one key or two; what follows the last one is the argument.
func (c *Call) EndKey() {
	c.keyEnds[c.keyed] = len(c.Buffer)
	c.keyed++
}

// Free gives back a call that is not run.
func (c *Call) Free() {
	if c.abandoned {
		return // left to the garbage collector
	}
	if cap(c.Buffer) > spareBufferMax {
		c.Buffer = nil
	}
	c.script, c.reply, c.fault = nil, "", nil
	calls.Put(c)
}

// complete readies a call whose argument is whole to be sent. keys is how many of its keys it sends.
func (c *Call) complete(sc *Script, keys int) {
	c.script, c.sent, c.whole = sc, keys, false
	c.reply, c.fault = "", nil
}

// key returns a key; it lies in the buffer.
func (c *Call) key(i int) []byte {
	if i == 0 {
		return c.Buffer[:c.keyEnds[0]]
	}
	return c.Buffer[c.keyEnds[i-1]:c.keyEnds[i]]
}

// argument returns what follows the keys; it lies in the buffer.
func (c *Call) argument() []byte { return c.Buffer[c.keyEnds[c.keyed-1]:] }

// appendCommand appends the command as it is sent.
func (c *Call) appendCommand(b []byte) []byte {
	if c.whole {
		b = appendHead(b, "eval", c.script.source, c.sent)
	} else {
		b = append(b, c.script.heads[c.sent-1]...)
	}
	for i := range c.sent {
		b = appendPart(b, c.key(i))
	}
	return appendPart(b, c.argument())
}

// appendHead appends a command up to its keys.
func appendHead(b []byte, verb, script string, keys int) []byte {
	b = strconv.AppendInt(append(b, '*'), int64(4+keys), 10)
	b = append(b, "\r\n"...)
	b = appendPart(b, verb)
	b = appendPart(b, script)
	return appendPart(b, strconv.Itoa(keys))
}

// appendPart appends one part of a command.
func appendPart[T string | []byte](b []byte, part T) []byte {
	b = strconv.AppendInt(append(b, '$'), int64(len(part)), 10)
	b = append(append(b, "\r\n"...), part...)
	return append(b, "\r\n"...)
}

// command makes the command for the library, which sends it again outside of any batch.
func (c *Call) command(verb, script string, keys int) *redis.StringCmd {
	args := []any{verb, script, keys}
	for i := range keys {
		args = append(args, c.key(i))
	}
	return redis.NewStringCmd(context.Background(), append(args, c.argument())...)
}

// alias returns b as a string without a copy. It is valid until b changes.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

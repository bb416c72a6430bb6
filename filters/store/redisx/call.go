package redisx

import (
	"context"
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
	keyed   int       // how many keys the buffer has
	keys    [2]string // in the buffer, once that is complete
	arg     string    // the same
	args    [6]any
	script  *Script
	sent    int // how many of the keys are sent
	cmd     *redis.StringCmd
	lost    error // the script was run, but see [ErrNotReplicated]

	deadline  time.Time
	hurried   bool        // its caller allows it less than half of the client's timeout
	signal    chan signal // from the batcher, to a queued call
	timer     *time.Timer
	abandoned bool // its caller has left while it was being sent
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
	c.script, c.cmd, c.lost, c.args = nil, nil, nil, [6]any{}
	calls.Put(c)
}

// complete makes the command of a call whose argument is whole. keys is how many of its keys it
// sends.
func (c *Call) complete(sc *Script, keys int) {
	from := 0
	for i, end := range c.keyEnds[:c.keyed] {
		c.keys[i] = alias(c.Buffer[from:end])
		from = end
	}
	c.arg = alias(c.Buffer[from:])
	c.script, c.sent, c.lost = sc, keys, nil
	c.cmd = c.command(c.args[:0], evalsha, sc.hash, keys)
}

// err returns the outcome of a call that was sent.
func (c *Call) err() error {
	if c.lost != nil {
		return c.lost
	}
	return c.cmd.Err()
}

// Boxed once.
var evalsha, eval, one, two any = "evalsha", "eval", "1", "2"

// command makes a command in args. Pointers are not boxed; they are written as what they point at.
func (c *Call) command(args []any, verb, script any, keys int) *redis.StringCmd {
	if keys == 1 {
		args = append(args, verb, script, one, &c.keys[0], &c.arg)
	} else {
		args = append(args, verb, script, two, &c.keys[0], &c.keys[1], &c.arg)
	}
	return redis.NewStringCmd(context.Background(), args...)
}

// alias returns b as a string without a copy. It is valid until b changes.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

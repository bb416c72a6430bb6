package idempotencyredis

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// call is one script on its way, with all that it is made of, so that a busy store allocates little. Once it is queued it belongs to the lane as well: its
// caller may leave, and what it refers to is its own.
type call struct {
	buffer          []byte // record's key, key of the open keys, argument
	keyEnd, bothEnd int
	key, open, arg  string // in the buffer, when that is complete
	args            [6]any
	cmd             *redis.StringCmd

	deadline  time.Time
	hurried   bool      // its caller gives it less than half of the store's timeout
	turn      chan bool // false: the reply is there; true: take what is queued and send it
	timer     *time.Timer
	abandoned bool // its caller has left while it was sent
}

// spareBufferMax is how large a buffer is kept for the next call.
const spareBufferMax = 16 << 10

var calls = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &call{turn: make(chan bool, 1), timer: timer}
}}

// newCall begins a call for a record. Its argument is appended to the buffer.
//
// The keys of one owner have its name as their hash tag: all lie in one slot of a cluster.
func (s *Store) newCall(id string) *call {
	c := calls.Get().(*call)
	owner := idempotency.Owner(id)
	b := append(c.buffer[:0], s.records...)
	b = append(append(append(b, owner...), '}'), id[len(owner):]...)
	c.keyEnd = len(b)
	b = append(append(append(b, s.opens...), owner...), '}')
	c.bothEnd = len(b)
	c.buffer = b
	return c
}

// keyedCall begins a call for a key that is no record's.
func keyedCall(key string) *call {
	c := calls.Get().(*call)
	c.buffer = append(c.buffer[:0], key...)
	c.keyEnd, c.bothEnd = len(key), len(key)
	return c
}

// free gives the call back, unless it is still being sent.
func (c *call) free() {
	if c.abandoned {
		return
	}
	if cap(c.buffer) > spareBufferMax {
		c.buffer = nil
	}
	c.cmd, c.args = nil, [6]any{}
	calls.Put(c)
}

// complete makes the command of a call whose argument is whole.
func (c *call) complete(sc *script, keys int) {
	c.key = filters.Alias(c.buffer[:c.keyEnd])
	c.open = filters.Alias(c.buffer[c.keyEnd:c.bothEnd])
	c.arg = filters.Alias(c.buffer[c.bothEnd:])
	c.cmd = c.command(c.args[:0], evalsha, sc.hash, keys)
}

// Boxed once.
var evalsha, eval, one, two any = "evalsha", "eval", "1", "2"

// command makes a command in args. Pointers are not boxed, and are written as what they point at.
func (c *call) command(args []any, verb, script any, keys int) *redis.StringCmd {
	if keys == 1 {
		args = append(args, verb, script, one, &c.key, &c.arg)
	} else {
		args = append(args, verb, script, two, &c.key, &c.open, &c.arg)
	}
	return redis.NewStringCmd(context.Background(), args...)
}

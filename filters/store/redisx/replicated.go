package redisx

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNotReplicated says that a script was run, and that no replica acknowledged what it wrote in
// time. A failover may lose it.
var ErrNotReplicated = errors.New("redisx: no replica acknowledged it in time")

// Replicated makes a script whose effects have to survive a failover. Where awaited says so of its
// reply, [Client.Run] returns when one replica has acknowledged everything up to the script
// ([WAIT]), and [ErrNotReplicated] when none has within three quarters of the time that is left.
// awaited should ask only where a replica is connected: Redis waits for one that is not there, too.
//
// Only such scripts share a write, so that what need not be replicated waits for no replica.
//
// [WAIT]: https://redis.io/docs/latest/commands/wait/
func (s *Script) Replicated(awaited func(reply string) bool) *Script {
	strict := *s
	strict.awaited = awaited
	return &strict
}

// replicate has a replica acknowledge what the calls of a write wrote, on the connection on which they were sent: it
// is the server that ran them that is asked. What has nothing to wait for is finished at once. The
// write lasts until then, so a replica that hangs takes writesMax connections and no more.
func (b *batcher) replicate(w *write, leader *Call) {
	var texts, waiting []*Call
	for _, c := range w.calls {
		if redis.HasErrorPrefix(c.fault, "NOSCRIPT") {
			c.whole = true
			texts = append(texts, c)
		}
	}
	if len(texts) > 0 {
		b.node.further(w, texts, leader.deadline)
	}
	for _, c := range w.calls {
		switch {
		case c.fault == nil && c.script.awaited(c.reply):
			waiting = append(waiting, c)
		case c != leader:
			c.signal <- finished
		}
	}
	if len(waiting) > 0 {
		if lost := b.awaitReplica(w, leader.deadline); lost != nil {
			fail(waiting, lost)
		}
	}
	for _, c := range waiting {
		if c != leader {
			c.signal <- finished
		}
	}
	b.endWrite(w)
}

// newWait makes the command that waits until one replica has what was written on the connection, or for some
// milliseconds.
func newWait(until time.Time) *Call {
	left := max(time.Until(until)*3/4, time.Millisecond) // Redis takes 0 for ever. What is left is for its reply.
	c := &Call{script: &Script{heads: [2]string{"*3\r\n$4\r\nwait\r\n"}}, sent: 1, began: time.Now()}
	c.Buffer = append(c.Buffer, '1')
	c.EndKey()
	c.Buffer = strconv.AppendInt(c.Buffer, left.Milliseconds(), 10)
	return c
}

// awaitReplica waits until one replica has what was written on the connection of a write.
func (b *batcher) awaitReplica(w *write, deadline time.Time) error {
	c := newWait(deadline)
	b.node.further(w, []*Call{c}, deadline)
	switch {
	case c.fault != nil: // not wrapped: the script has run, whatever the error says of WAIT
		return fmt.Errorf("%w: %v", ErrNotReplicated, c.fault)
	case c.reply == "0":
		return ErrNotReplicated
	}
	if _, err := strconv.ParseUint(c.reply, 10, 32); err != nil {
		return fmt.Errorf("%w: the reply to WAIT is %.40q", ErrNotReplicated, c.reply)
	}
	return nil
}

// repeatReplicated sends a script again that was not run. It does not leave that to the library,
// which does not say on which connection: while a slot moves it goes on until that has moved.
func (c *Client) repeatReplicated(ctx context.Context, call *Call, err error) (string, error) {
	for previous := error(nil); notRun(err) && (previous == nil || again(call.script, previous, err)); {
		c.reloadSlots()
		if time.Until(call.deadline) < 2*repeatPause {
			break
		}
		time.Sleep(repeatPause)
		previous = err
		call.complete(call.script, call.sent)
		b, unreachable := c.batcher(call)
		if unreachable != nil {
			return "", unreachable
		}
		if err = b.do(ctx, call); err == nil {
			return call.reply, nil
		}
	}
	c.reloadSlots()
	return "", err
}

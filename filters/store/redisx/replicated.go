package redisx

import (
	"context"
	"errors"
	"fmt"
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

// connector is a node that lends a connection.
type connector interface{ Conn() *redis.Conn }

// writeReplicated sends calls and has a replica acknowledge what they wrote, on one connection: it
// is the server that ran them that is asked. What has nothing to wait for is finished at once. The
// write lasts until then, so a replica that hangs takes writesMax connections and no more.
func (b *batcher) writeReplicated(leader *Call, batch []*Call) {
	ctx := until(leader.deadline)
	conn := b.node.(connector).Conn()
	send(ctx, conn, leader, batch)
	wait := leader.awaits()
	var waiting []*Call
	for _, c := range batch {
		if c.awaits() {
			waiting = append(waiting, c)
		} else {
			c.signal <- finished
		}
	}
	var lost error
	if wait || len(waiting) > 0 {
		lost = awaitReplica(ctx, conn)
	}
	_ = conn.Close() // it goes back to the pool, unless it broke
	b.endWrite()
	if wait {
		leader.lost = lost
	}
	for _, c := range waiting {
		c.lost = lost
		c.signal <- finished
	}
}

// send sends calls on one connection, the text of a script along with those whose server does not
// have it. Each command keeps its own outcome.
func send(ctx context.Context, conn *redis.Conn, leader *Call, batch []*Call) {
	if len(batch) == 0 {
		_ = conn.Process(ctx, leader.cmd)
	} else {
		_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
			return p.BatchProcess(ctx, commands(leader, batch)...)
		})
	}
	for i := -1; i < len(batch); i++ {
		c := leader
		if i >= 0 {
			c = batch[i]
		}
		if redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") {
			c.cmd = c.command(nil, eval, c.script.source, c.sent)
			_ = conn.Process(ctx, c.cmd)
		}
	}
}

// awaitReplica waits until one replica has what was written on the connection.
func awaitReplica(ctx context.Context, conn *redis.Conn) error {
	deadline, _ := ctx.Deadline()
	// Redis takes 0 for ever. What is left is for its reply.
	n, err := conn.Wait(ctx, 1, max(time.Until(deadline)*3/4, time.Millisecond)).Result()
	switch {
	case err != nil: // not wrapped: the script has run, whatever the error says of WAIT
		return fmt.Errorf("%w: %v", ErrNotReplicated, err)
	case n < 1:
		return ErrNotReplicated
	}
	return nil
}

// awaits reports whether a replica has to acknowledge what the call wrote.
func (c *Call) awaits() bool { return c.cmd.Err() == nil && c.script.awaited(c.cmd.Val()) }

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
			return call.cmd.Val(), nil
		}
	}
	c.reloadSlots()
	return "", err
}

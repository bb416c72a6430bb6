package redisx

import (
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// repeatPause is how long a call waits before it is sent again, while a slot of the cluster moves.
const repeatPause = 5 * time.Millisecond

// repeat sends a script again that was not run, outside of any batch: the library follows a slot
// that has moved.
func (c *Client) repeat(sc *Script, call *Call, keys int, err error) (string, error) {
	ctx := until(call.deadline)
	for {
		verb, text := "evalsha", sc.hash
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			verb, text = "eval", sc.source
		}
		if keys == 2 && moving(err) {
			alone := call.command("eval", sc.source, 1)
			switch err := c.universal.Process(ctx, once{alone}); {
			case err == nil && alone.Val() != NeedsAllKeys:
				return alone.Val(), nil
			case err != nil && !notRun(err):
				c.reloadSlots()
				return "", err
			}
		}
		cmd := call.command(verb, text, keys)
		previous := err
		if err = c.universal.Process(ctx, once{cmd}); err == nil {
			return cmd.Val(), nil
		}
		if !again(sc, previous, err) || time.Until(call.deadline) < 2*repeatPause {
			c.reloadSlots()
			return "", err
		}
		time.Sleep(repeatPause)
	}
}

// again tells whether a script that was refused twice is worth a further try.
func again(sc *Script, previous, err error) bool {
	switch {
	case redis.HasErrorPrefix(err, "NOSCRIPT"): // its text has not been sent to this node yet
		return sc.untilRun || !redis.HasErrorPrefix(previous, "NOSCRIPT")
	case moving(err), redis.HasErrorPrefix(err, "CLUSTERDOWN"), redis.HasErrorPrefix(err, "MOVED "):
		return sc.untilRun
	}
	return false
}

// once is a command that the client of a cluster does not send again when its connection breaks: it
// may have been run, and the error of the second try, of a connection that could not be made, would
// say that it was not.
type once struct{ *redis.StringCmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// moving tells whether Redis says that the slot of a script is on its way to another node. The
// library follows ASK by itself, and returns it when that node does not have all keys yet.
func moving(err error) bool {
	return redis.HasErrorPrefix(err, "TRYAGAIN") || redis.HasErrorPrefix(err, "ASK ")
}

// notRun tells whether Redis says for certain that it has not run a script, so that it may be sent
// again.
func notRun(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return errors.Is(err, redis.ErrClosed) // the client of a node that has left the cluster
	}
	for _, prefix := range []string{"NOSCRIPT", "MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// NeverSent tells whether an error of [Client.Run] says that no connection could be made or got, so
// that the script was certainly not run.
func NeverSent(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial" ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}

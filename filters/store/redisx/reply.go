package redisx

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// reply is what Redis says to one command (RESP2 and RESP3): text, or an error of Redis's own.
type reply struct {
	text    string
	refusal error // [redis.Error], or [redis.Nil] for null
	pushed  bool  // it belongs to no command (RESP3)
}

// refusal is an error reply.
type refusal string

func (r refusal) Error() string { return string(r) }

// RedisError implements [redis.Error].
func (refusal) RedisError() {}

// errProtocol says that what came is not what Redis says to a script. The connection is of no use any more.
var errProtocol = errors.New("redisx: unexpected reply")

const (
	// lineMax bounds a reply without a length, and the head of one with a length.
	lineMax = 64 << 10
	// pushDepthMax and pushPartsMax bound what belongs to no command: it is read to be dropped.
	pushDepthMax = 8
	pushPartsMax = 1024
)

// parse reads the reply that p begins with. size is how long it is, and 0 while it is not complete: then want is how
// many bytes it takes at least.
func parse(p []byte) (r reply, size, want int, err error) { return parseAt(p, 0) }

// parseAt reads a reply that is so deep in others.
func parseAt(p []byte, depth int) (r reply, size, want int, err error) {
	end := bytes.IndexByte(p[:min(len(p), lineMax)], '\n')
	if end < 0 && len(p) < lineMax {
		return r, 0, len(p) + 1, nil
	}
	if end < 2 || p[end-1] != '\r' {
		return r, 0, 0, errProtocol
	}
	line := p[1 : end-1]
	size = end + 1
	switch p[0] {
	case '+', ':':
		r.text = text(line)
	case '-':
		r.refusal = refusal(line)
	case '_':
		r.refusal = redis.Nil
	case '$', '!':
		n, err := length(line)
		if err != nil {
			return r, 0, 0, err
		}
		if n < 0 {
			return reply{refusal: redis.Nil}, size, 0, nil
		}
		if want = size + n + 2; want > len(p) {
			return r, 0, want, nil
		}
		if p[want-2] != '\r' || p[want-1] != '\n' {
			return r, 0, 0, fmt.Errorf("%w: longer than its length, %d", errProtocol, n)
		}
		if body := p[size : size+n]; p[0] == '$' {
			r.text = text(body)
		} else {
			r.refusal = refusal(body)
		}
		size = want
	case '>':
		n, err := length(line)
		if depth == pushDepthMax || n > pushPartsMax {
			err = errProtocol
		}
		if err != nil {
			return r, 0, 0, err
		}
		for r.pushed = true; n > 0; n-- {
			var one int
			if _, one, want, err = parseAt(p[size:], depth+1); one == 0 {
				return r, 0, size + want, err
			}
			size += one
		}
		return r, size, 0, nil
	default:
		return r, 0, 0, fmt.Errorf("%w: %.40q", errProtocol, line)
	}
	return r, size, 0, nil
}

// repliesMax bounds one reply: as long as Redis lets a string be.
const repliesMax = 512 << 20

// length reads the length of what follows; -1 is null.
func length(line []byte) (int, error) {
	n, err := strconv.Atoi(alias(line))
	if err != nil || n < -1 || n > repliesMax {
		return 0, fmt.Errorf("%w: a length of %.40q", errProtocol, line)
	}
	return n, nil
}

// text copies a reply. Most are one character, of which there are copies already.
func text(b []byte) string {
	if len(b) == 1 && b[0] < 0x80 {
		return characters[b[0] : b[0]+1]
	}
	return string(b)
}

// characters are those of ASCII, each at its place.
var characters = func() string {
	var all [0x80]byte
	for i := range all {
		all[i] = byte(i)
	}
	return string(all[:])
}()

package idempotencyredis

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// cutConn breaks behind the first script that is sent with its text.
type cutConn struct {
	net.Conn
	down *atomic.Bool
	ran  func() // returns when Redis has run it
}

func (c cutConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if bytes.Contains(b, []byte("\r\neval\r\n")) && c.down.CompareAndSwap(false, true) {
		c.ran()
		_ = c.Conn.Close()
	}
	return n, err
}

// A step that Redis ran and did not acknowledge is never said to be not taken, whatever becomes of
// the connections after it.
func TestNotTakenThoughTaken(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{Cluster: true})
	awaitPing(t, open(t, dial(t, server.Addr(), waitLimit, true), "other:")) // it serves its slots
	plain := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = plain.Close() })
	ctx := within(t, waitLimit)
	stored := func() bool {
		keys, err := plain.Keys(ctx, "s:idem:*").Result()
		return err == nil && len(keys) == 1
	}
	var down atomic.Bool
	connect := func(_ context.Context, network, addr string) (net.Conn, error) {
		if down.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		c, err := net.Dial(network, addr)
		if err != nil {
			return nil, err
		}
		return cutConn{c, &down, func() {
			for !stored() && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}}, nil
	}
	s := open(t, dialMany(t, redisx.Options{Addresses: []string{server.Addr()}, Cluster: true, Timeout: waitLimit,
		Dial: connect}), "s:")
	_, _, err := s.Claim(ctx, request("k", 5))
	if !stored() || err == nil || errors.Is(err, idempotency.ErrNotTaken) {
		t.Errorf("the claim is there: %v; its caller got %v", stored(), err)
	}
}

// An operator can forget a record that cannot be read.
func TestDamagedRecordIsForgotten(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	s := open(t, dial(t, server.Addr(), waitLimit, false), "s:")
	plain := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = plain.Close() })
	ctx := within(t, waitLimit)
	id := "0123456789rest-of-the-id"
	c := request(id, 5)
	c.MaxOpen = 1
	claim(t, s, c)
	if err := plain.SetRange(ctx, "s:idem:{0123456789}rest-of-the-id", 0, "\x09").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Claim(ctx, request(id, 6)); !errors.Is(err, idempotency.ErrCorrupt) {
		t.Errorf("a claim of a damaged record: %v", err)
	}
	if _, err := s.Resolve(ctx, id, nil, false); !errors.Is(err, idempotency.ErrCorrupt) {
		t.Errorf("resolved without force: %v", err)
	}
	if ok, err := s.Resolve(ctx, id, nil, true); err != nil || !ok {
		t.Errorf("forgotten: %v, %v", ok, err)
	}
	c = request("0123456789another-one", 7)
	c.MaxOpen = 1
	claim(t, s, c) // it is not counted any more either
}

package idempotencyredis

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// lookAgain is after how long a waiter looks again in case a message was lost; up to half as
	// much more, so that many do not look at the same moment.
	lookAgain = 2 * time.Second
	// quiet is how long the subscription is silent before it is pinged, and then how long it has
	// for the reply.
	quiet = 2 * time.Second
	// resubscribePause lies between two tries to subscribe.
	resubscribePause = 100 * time.Millisecond
)

// Wait implements [idempotency.Store]: the step that ends the claim publishes it. It returns early,
// with an error, when Redis does not reply.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	if err := s.ends.listen(s); err != nil {
		return err
	}
	key := s.recordKey(id)
	for {
		w := s.waiting.Join(key)
		left, err := s.look(ctx, id, token)
		if err == nil && left > 0 {
			timer := time.NewTimer(min(left+time.Millisecond, s.lookAgain+rand.N(s.lookAgain/2)))
			select {
			case <-w.Woken():
			case <-timer.C:
			case <-ctx.Done():
				err = ctx.Err()
			}
			timer.Stop()
		}
		w.Leave()
		switch {
		case err != nil && ended(ctx):
			return ctx.Err()
		case err != nil:
			return failed("wait", id, err)
		case left == 0:
			return nil
		}
	}
}

// look marks the record as awaited and returns how long its claim lasts if nothing happens; 0 when
// it is not in flight under that token.
func (s *Store) look(ctx context.Context, id string, token uint64) (time.Duration, error) {
	call := s.newCall(id)
	call.Buffer = binary.BigEndian.AppendUint64(call.Buffer, token)
	reply, err := s.client.Run(ctx, s.scripts.wait, call, 1)
	if err != nil || len(reply) != 8 {
		return 0, err
	}
	return time.Duration(number(reply)) * time.Microsecond, nil
}

// ended tells whether ctx has ended, or ends at this moment: the deadline of a connection, which is
// that of its context, may be noticed a little earlier than the context's own.
func ended(ctx context.Context) bool {
	if at, ok := ctx.Deadline(); ok && time.Until(at) < 10*time.Millisecond {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// recordKey returns the key of a record, as it is published when its claim ends.
func (s *Store) recordKey(id string) string {
	return string(s.appendRecordKey(nil, id))
}

// ends is the one subscription of the process to the ends of claims. It begins with the first
// waiter.
type ends struct {
	mu      sync.Mutex
	ctx     context.Context // ends with the store
	cancel  context.CancelFunc
	running bool
	done    sync.WaitGroup
}

func (e *ends) init() { e.ctx, e.cancel = context.WithCancel(context.Background()) }

func (e *ends) listen(s *Store) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return errClosed
	}
	if !e.running {
		e.running = true
		e.done.Go(func() { s.follow(e.ctx) })
	}
	return nil
}

func (e *ends) close() {
	e.mu.Lock()
	e.cancel()
	e.mu.Unlock()
	e.done.Wait()
}

// follow keeps the subscription until ctx ends.
func (s *Store) follow(ctx context.Context) {
	for ctx.Err() == nil {
		p := s.client.Universal().Subscribe(ctx, s.channel())
		stop := context.AfterFunc(ctx, func() { _ = p.Close() }) // a read under way does not look at ctx
		s.receive(ctx, p)
		stop()
		_ = p.Close()
		pause := time.NewTimer(resubscribePause + rand.N(resubscribePause))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// receive wakes waiters until the connection breaks or does not reply to a ping. What was published
// while there was no subscription is lost, so all waiters look again when it is back.
func (s *Store) receive(ctx context.Context, p *redis.PubSub) {
	pinged := false
	for {
		msg, err := p.ReceiveTimeout(ctx, quiet)
		var timeout net.Error
		switch {
		case err == nil:
			pinged = false
		case ctx.Err() == nil && !pinged && errors.As(err, &timeout) && timeout.Timeout():
			pinged = true
			if p.Ping(ctx) != nil {
				return
			}
			continue
		default:
			return
		}
		switch msg := msg.(type) {
		case *redis.Subscription:
			s.waiting.WakeAll()
		case *redis.Message:
			s.waiting.Wake(msg.Payload)
		}
	}
}

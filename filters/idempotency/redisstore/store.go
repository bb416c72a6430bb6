package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
)

const (
	pollMin = 20 * time.Millisecond
	pollMax = 250 * time.Millisecond
)

// Store is an [idempotency.Store] in Redis; make it with [New].
type Store struct {
	client  redis.UniversalClient
	prefix  string
	timeout time.Duration
}

var _ idempotency.Store = (*Store)(nil)

// Tune sets what the store needs of its client: the deadline of a command is kept, no attempt outlasts timeout, and no command is repeated
// behind the store's back. Everything else is the caller's.
func Tune(o *redis.UniversalOptions, timeout time.Duration) {
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.DialerRetries = 1
	o.MaxRetries = -1 // none
}

// New makes a store on a client whose options went through [Tune]. Keys begin with prefix; a timeout above 0 bounds each command. The client stays the caller's: Close
// does not close it.
func New(client redis.UniversalClient, prefix string, timeout time.Duration) *Store {
	return &Store{client: client, prefix: prefix, timeout: timeout}
}

func (s *Store) recordKey(id string) string { return s.prefix + "idem:" + id }

// run runs a script on one key within the timeout.
func (s *Store) run(ctx context.Context, script *redis.Script, key string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return script.Run(ctx, s.client, []string{key}, args...)
}

// Claim implements [idempotency.Store]. A claim with the token that holds the record already is granted again.
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	reply, err := s.run(ctx, claimScript, s.recordKey(c.ID), tokenText(c.Token), c.Fingerprint[:], c.Route, c.Principal, c.ClientKey,
		c.Lease.Microseconds(), c.Cap.Microseconds(), c.TTL.Microseconds(), flag(c.Retry), flag(c.Unsent)).StringSlice()
	if err != nil {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: claim of %s: %w", c.ID, err)
	}
	if len(reply) < 2 {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: claim of %s: reply of %d parts", c.ID, len(reply))
	}
	now, err := parseTime(reply[0])
	if err != nil {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: claim of %s: %w", c.ID, err)
	}
	if reply[1] == "1" {
		rec, err := claimedRecord(c, now, reply[2:])
		if err != nil {
			return idempotency.Record{}, false, fmt.Errorf("redisstore: claim of %s: %w", c.ID, err)
		}
		return rec, true, nil
	}
	rec, err := parseRecord(c.ID, reply[2:])
	if err != nil {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: record %s: %w", c.ID, err)
	}
	seen, _ := idempotency.View(&rec, now) // it is there: the script looked at the same moment
	return seen, seen.State == idempotency.InFlight && seen.Token == c.Token, nil
}

// claimedRecord is the record that the script has stored.
func claimedRecord(c idempotency.ClaimRequest, now time.Time, reply []string) (idempotency.Record, error) {
	if len(reply) != 2 {
		return idempotency.Record{}, fmt.Errorf("claim with %d parts", len(reply))
	}
	attempt, err := strconv.Atoi(reply[0])
	if err != nil {
		return idempotency.Record{}, err
	}
	created, err := parseTime(reply[1])
	if err != nil {
		return idempotency.Record{}, err
	}
	return idempotency.Record{
		ID: c.ID, State: idempotency.InFlight, Token: c.Token, Attempt: attempt, Fingerprint: c.Fingerprint,
		Route: c.Route, Principal: c.Principal, ClientKey: c.ClientKey, Unsent: c.Unsent,
		Created: created, LeaseUntil: now.Add(micros(c.Lease)), CapUntil: now.Add(micros(c.Cap)), TTL: micros(c.TTL),
		Expires: now.Add(micros(c.Cap) + micros(c.TTL)),
	}, nil
}

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	var answer []byte
	if ch.Op == idempotency.Finish {
		if ch.Answer == nil {
			return fmt.Errorf("redisstore: finish of %s without an answer", id)
		}
		answer = ch.Answer
	}
	held, err := s.run(ctx, changeScript, s.recordKey(id), tokenText(token), int(ch.Op), ch.Lease.Microseconds(), answer, ch.GID, idempotency.HandedLife.Microseconds()).Bool()
	switch {
	case err != nil:
		return fmt.Errorf("redisstore: step %d of %s: %w", ch.Op, id, err)
	case !held:
		return idempotency.ErrLost
	}
	return nil
}

// Get implements [idempotency.Store].
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	reply, err := s.run(ctx, getScript, s.recordKey(id)).StringSlice()
	if err != nil {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: get of %s: %w", id, err)
	}
	rec, ok, err := viewReply(id, reply)
	if err != nil {
		return idempotency.Record{}, false, fmt.Errorf("redisstore: record %s: %w", id, err)
	}
	return rec, ok, nil
}

// viewReply reads getScript's reply.
func viewReply(id string, reply []string) (idempotency.Record, bool, error) {
	if len(reply) == 0 {
		return idempotency.Record{}, false, errors.New("empty reply")
	}
	if len(reply) == 1 {
		return idempotency.Record{}, false, nil
	}
	now, err := parseTime(reply[0])
	if err != nil {
		return idempotency.Record{}, false, err
	}
	rec, err := parseRecord(id, reply[1:])
	if err != nil {
		return idempotency.Record{}, false, err
	}
	seen, ok := idempotency.View(&rec, now)
	return seen, ok, nil
}

// Wait implements [idempotency.Store]: it polls. It returns early, with the error, when Redis does not answer.
func (s *Store) Wait(ctx context.Context, id string, token uint64) error {
	for pause := pollMin; ; pause = min(pause*3/2, pollMax) {
		running, err := s.run(ctx, waitScript, s.recordKey(id), tokenText(token)).Bool()
		if err != nil {
			if ended(ctx) {
				return ctx.Err()
			}
			return fmt.Errorf("redisstore: waiting for %s: %w", id, err)
		}
		if !running {
			return nil
		}
		timer := time.NewTimer(pause/2 + mathrand.N(pause)) // jitter, so that many waiters do not come in step
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// ended tells whether ctx has ended, or ends at this moment: the deadline of a connection, which is that of its context, may be noticed
// a little earlier than the context's own.
func ended(ctx context.Context) bool {
	if at, ok := ctx.Deadline(); ok && time.Until(at) < 10*time.Millisecond {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer []byte, force bool) (bool, error) {
	settled, err := s.run(ctx, resolveScript, s.recordKey(id), tokenText(fence.NewToken()), flag(answer != nil), answer, flag(force)).Int()
	if err != nil {
		return false, fmt.Errorf("redisstore: resolve of %s: %w", id, err)
	}
	if settled == 2 {
		return false, idempotency.ErrBusy
	}
	return settled == 1, nil
}

// Secret implements [idempotency.Store].
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	fresh := make([]byte, n)
	_, _ = rand.Read(fresh)
	secret, err := s.run(ctx, secretScript, s.prefix+"secret:"+name, fresh).Text()
	if err != nil {
		return nil, fmt.Errorf("redisstore: secret %q: %w", name, err)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("redisstore: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return []byte(secret), nil
}

// Ping implements [idempotency.Store]. It asks one node; in a cluster the one that has the ping's key.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.client.Exists(ctx, s.prefix+"ping").Err(); err != nil { // PING would not tell that the node is still loading
		return fmt.Errorf("redisstore: ping: %w", err)
	}
	return nil
}

// Close implements [idempotency.Store]. The client is the caller's and stays open.
func (s *Store) Close() error { return nil }

func tokenText(token uint64) string { return strconv.FormatUint(token, 10) }

func micros(d time.Duration) time.Duration { return d.Truncate(time.Microsecond) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

package idempotencyredis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
)

// Options are the settings of a store.
type Options struct {
	Prefix    string        // of all keys; without braces, which would be taken for a hash tag
	Timeout   time.Duration // > 0: of each step, connecting included
	Logger    *slog.Logger  // nil: none
	Failovers Counter       // masters that were replaced or restarted; nil: not counted
}

// Counter counts.
type Counter interface{ Inc() }

// Store is an [idempotency.Store] in Redis; make it with [New].
type Store struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // nil without one
	Options
	records, opens string // what keys begin with
	scripts        *scripts

	whole *lane    // without a cluster
	lanes sync.Map // of a cluster: *redis.Client to *lane

	waiting   waiting.List // by record key
	lookAgain time.Duration
	ends      ends
	masters   masters
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

// New makes a store on a client whose options went through [Tune]: of one Redis, of a master that sentinels name, or of a Redis Cluster. The client stays the caller's:
// Close does not close it.
func New(client redis.UniversalClient, o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{client: client, Options: o, records: o.Prefix + "idem:{", opens: o.Prefix + "open:{"}
	s.scripts = newScripts(s.channel())
	s.cluster, _ = client.(*redis.ClusterClient)
	s.whole = &lane{node: client}
	s.lookAgain = lookAgain
	s.ends.init()
	return s
}

func (s *Store) channel() string { return s.Prefix + "idem:ended" }

// lane returns that of the node which has the call's keys.
func (s *Store) lane(c *call) (*lane, error) {
	if s.cluster == nil {
		return s.whole, nil
	}
	master, err := s.cluster.MasterForKey(until(c.deadline), c.key)
	if err != nil {
		return nil, err
	}
	l, ok := s.lanes.Load(master)
	if !ok {
		l, _ = s.lanes.LoadOrStore(master, &lane{node: master})
	}
	return l.(*lane), nil
}

// run runs a script on so many keys within the timeout, and ends the call.
func (s *Store) run(ctx context.Context, sc *script, c *call, keys int) (string, error) {
	defer c.free()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c.deadline = time.Now().Add(s.Timeout)
	c.hurried = false
	if at, ok := ctx.Deadline(); ok && at.Before(c.deadline) {
		c.hurried = c.deadline.Sub(at) > s.Timeout/2
		c.deadline = at
	}
	c.complete(sc, keys)
	l, err := s.lane(c)
	if err != nil {
		return "", err
	}
	if err = l.do(ctx, c); err == nil {
		return c.cmd.Val(), nil
	}
	if !notExecuted(err) {
		s.suspect()
		return "", err
	}
	return s.repeat(sc, c, keys, err)
}

// repeatPause is how long a step waits while a slot of the cluster moves.
const repeatPause = 5 * time.Millisecond

// repeat sends a script again that was not run, by itself: the client follows a slot that has moved. While a slot moves, a node takes a step on two keys only if
// it has both: it is tried with the first key alone, which is enough for records that are not counted, and else again until the deadline.
func (s *Store) repeat(sc *script, c *call, keys int, err error) (string, error) {
	ctx := until(c.deadline)
	for {
		verb, text := evalsha, sc.hash
		if redis.HasErrorPrefix(err, "NOSCRIPT") {
			verb, text = eval, sc.source
		}
		if keys == 2 && moving(err) {
			alone := c.command(nil, eval, sc.source, 1)
			switch err := s.client.Process(ctx, once{alone}); {
			case err == nil && alone.Val() != needsBoth:
				return alone.Val(), nil
			case err != nil && !notExecuted(err): // it may have been run
				s.suspect()
				return "", err
			}
		}
		cmd := c.command(nil, verb, text, keys)
		if err = s.client.Process(ctx, once{cmd}); err == nil {
			return cmd.Val(), nil
		}
		again := moving(err) || redis.HasErrorPrefix(err, "CLUSTERDOWN") || redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "NOSCRIPT")
		if !again || time.Until(c.deadline) < 2*repeatPause {
			s.suspect()
			return "", err
		}
		time.Sleep(repeatPause)
	}
}

// once is a command that the client of a cluster does not send again when its connection breaks: it may have been run, and the error of the second try, of a
// connection that does not come about, would say that it was not.
type once struct{ *redis.StringCmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// moving tells whether Redis says that the slot of a step is on its way to another node. The client follows ASK by itself, and comes back with it when that node has
// not all keys yet.
func moving(err error) bool {
	return redis.HasErrorPrefix(err, "TRYAGAIN") || redis.HasErrorPrefix(err, "ASK ")
}

// needsBoth is the reply of a script that was given one key and needs two. It has changed nothing.
const needsBoth = "K"

// suspect has the client look at the cluster anew.
func (s *Store) suspect() {
	if s.cluster != nil {
		s.cluster.ReloadState(context.Background())
	}
}

// failed makes the error of a step. One that no connection came about for was certainly not taken.
func failed(what, id string, err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return fmt.Errorf("redisstore: %s of %s: %w: %w", what, id, idempotency.ErrNotTaken, err)
	}
	if strings.Contains(err.Error(), "SLUICECORRUPT") {
		err = idempotency.ErrCorrupt
	}
	return fmt.Errorf("redisstore: %s of %s: %w", what, id, err)
}

// Claim implements [idempotency.Store]. A claim with the token that holds the record already is granted again.
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	call := s.newCall(c.ID)
	arg := call.buffer
	arg = binary.BigEndian.AppendUint64(arg, c.Token)
	arg = append(arg, c.Fingerprint[:]...)
	arg = appendSpan(arg, c.Lease)
	arg = appendSpan(arg, c.Cap)
	arg = appendSpan(arg, c.TTL)
	arg = append(arg, bit(c.NotDispatched)|bit(c.Retry)<<1)
	arg = binary.BigEndian.AppendUint64(arg, c.RetryOf)
	arg = binary.BigEndian.AppendUint32(arg, uint32(min(max(c.MaxOpen, 0), 1<<31)))
	call.buffer = appendTexts(arg, &c)
	keys := 1
	if c.MaxOpen > 0 {
		keys = 2
	}
	reply, err := s.run(ctx, s.scripts.claim, call, keys)
	if err != nil {
		return idempotency.Record{}, false, failed("claim", c.ID, err)
	}
	switch {
	case len(reply) == 21 && reply[0] == 'C':
		return claimedRecord(&c, reply[1:]), true, nil
	case len(reply) > 9 && reply[0] == 'R':
		rec, err := parseRecord(c.ID, reply[9:])
		if err != nil {
			return idempotency.Record{}, false, failed("record", c.ID, err)
		}
		seen, _ := idempotency.View(&rec, moment(reply[1:])) // it is there: the script looked at the same moment
		return seen, seen.State == idempotency.InFlight && seen.Token == c.Token, nil
	case reply == "Q":
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen
	}
	return idempotency.Record{}, false, failed("claim", c.ID, fmt.Errorf("reply %.20q", reply))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// claimedRecord is the record that the script has stored. reply: now, attempt, created.
func claimedRecord(c *idempotency.ClaimRequest, reply string) idempotency.Record {
	now, attempt := moment(reply), int(short(reply[8:]))
	return idempotency.Record{
		ID: c.ID, State: idempotency.InFlight, Token: c.Token, Attempt: attempt, Fingerprint: c.Fingerprint,
		Route: c.Route, Principal: c.Principal, ClientKey: c.ClientKey, NotDispatched: c.NotDispatched && attempt == 1, Counted: c.MaxOpen > 0,
		Created: moment(reply[12:]), LeaseUntil: now.Add(micros(c.Lease)), CapUntil: now.Add(micros(c.Cap)), TTL: micros(c.TTL),
		Expires: now.Add(micros(c.Cap) + micros(c.TTL)),
	}
}

func micros(d time.Duration) time.Duration { return d.Truncate(time.Microsecond) }

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Finish && len(ch.Response) == 0 {
		return fmt.Errorf("redisstore: finish of %s without an answer", id)
	}
	call := s.newCall(id)
	arg := append(call.buffer, byte(ch.Op))
	arg = binary.BigEndian.AppendUint64(arg, token)
	arg = appendSpan(arg, ch.Lease)
	arg = appendSpan(arg, idempotency.DelegatedLife)
	arg = binary.BigEndian.AppendUint32(arg, uint32(max(ch.Attempt, 0)))
	arg = binary.BigEndian.AppendUint64(arg, uint64(max(ch.Created.UnixMicro(), 0)))
	switch ch.Op {
	case idempotency.Finish:
		arg = append(arg, ch.Response...)
	case idempotency.Delegate:
		arg = append(arg, ch.GID...)
	}
	call.buffer = arg
	switch reply, err := s.run(ctx, s.scripts.change, call, 2); {
	case err != nil:
		return failed(fmt.Sprintf("step %d", ch.Op), id, err)
	case reply == "0":
		return idempotency.ErrLost
	case reply != "1":
		return failed(fmt.Sprintf("step %d", ch.Op), id, fmt.Errorf("reply %.20q", reply))
	}
	return nil
}

// Get implements [idempotency.Store].
func (s *Store) Get(ctx context.Context, id string) (idempotency.Record, bool, error) {
	reply, err := s.run(ctx, s.scripts.get, s.newCall(id), 1)
	if err != nil {
		return idempotency.Record{}, false, failed("get", id, err)
	}
	if len(reply) <= 8 {
		return idempotency.Record{}, false, nil
	}
	rec, err := parseRecord(id, reply[8:])
	if err != nil {
		return idempotency.Record{}, false, failed("record", id, err)
	}
	seen, ok := idempotency.View(&rec, moment(reply))
	return seen, ok, nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, answer []byte, force bool) (bool, error) {
	call := s.newCall(id)
	arg := binary.BigEndian.AppendUint64(call.buffer, fence.NewToken())
	arg = append(arg, bit(force), bit(answer != nil))
	call.buffer = append(arg, answer...)
	switch reply, err := s.run(ctx, s.scripts.resolve, call, 2); {
	case err != nil:
		return false, failed("resolve", id, err)
	case reply == "2":
		return false, idempotency.ErrBusy
	default:
		return reply == "1", nil
	}
}

// Secret implements [idempotency.Store].
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	call := keyedCall(s.Prefix + "secret:" + name)
	fresh := make([]byte, n)
	_, _ = rand.Read(fresh)
	call.buffer = append(call.buffer, fresh...)
	secret, err := s.run(ctx, s.scripts.secret, call, 1)
	if err != nil {
		return nil, fmt.Errorf("redisstore: secret %q: %w", name, err)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("redisstore: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return []byte(secret), nil
}

// Close implements [idempotency.Store]: it ends the subscription. The client is the caller's and stays open.
func (s *Store) Close() error {
	s.ends.close()
	return nil
}

var errClosed = errors.New("redisstore: the store is closed")

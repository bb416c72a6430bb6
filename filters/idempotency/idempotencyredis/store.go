package idempotencyredis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/fence"
	"github.com/sluice-gateway/sluice/filters/idempotency/internal/waiting"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Options are the settings of a store.
type Options struct {
	Prefix    string         // of all keys; without braces, which would be taken for a hash tag
	Logger    *slog.Logger   // nil: none
	Failovers redisx.Counter // masters that were replaced or restarted; nil: not counted
}

// Store is an [idempotency.Store] in Redis. Make it with [New]. It is safe for concurrent use.
type Store struct {
	client         *redisx.Client
	prefix         string
	records, opens string // what keys begin with
	scripts        *scripts
	logger         *slog.Logger
	watch          *redisx.Watch

	waiting   waiting.List // by record key
	lookAgain time.Duration
	ends      ends
}

var _ idempotency.Store = (*Store)(nil)

// New makes a store. The client remains the caller's: Close does not close it.
func New(client *redisx.Client, o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	watch := redisx.WatchOptions{Key: o.Prefix + "ping", Logger: o.Logger, Failovers: o.Failovers}
	s := &Store{
		client: client, prefix: o.Prefix, records: o.Prefix + "idem:{", opens: o.Prefix + "open:{", logger: o.Logger,
		watch: redisx.NewWatch(client, watch), lookAgain: lookAgain,
	}
	s.scripts = newScripts(s.channel())
	s.ends.init()
	return s
}

func (s *Store) channel() string { return s.prefix + "idem:ended" }

// newCall begins a call for a record, with both of its keys. Its argument is appended to the
// buffer.
//
// The keys of one owner have its name as their hash tag: all of them lie in one slot of a cluster.
func (s *Store) newCall(id string) *redisx.Call {
	c := redisx.NewCall()
	c.Buffer = s.appendRecordKey(c.Buffer, id)
	c.EndKey()
	c.Buffer = s.appendOpenKey(c.Buffer, id)
	c.EndKey()
	return c
}

// appendRecordKey appends the key of a record.
func (s *Store) appendRecordKey(b []byte, id string) []byte {
	owner := idempotency.Owner(id)
	b = append(b, s.records...)
	return append(append(append(b, owner...), '}'), id[len(owner):]...)
}

// appendOpenKey appends the key of the open keys of a record's owner.
func (s *Store) appendOpenKey(b []byte, id string) []byte {
	b = append(b, s.opens...)
	return append(append(b, idempotency.Owner(id)...), '}')
}

// failed makes the error of a step. One for which no connection could be made was certainly not
// taken.
func failed(what, id string, err error) error {
	if redisx.NeverSent(err) {
		return fmt.Errorf("idempotencyredis: %s of %s: %w: %w", what, id, idempotency.ErrNotTaken, err)
	}
	if strings.Contains(err.Error(), "SLUICECORRUPT") {
		err = idempotency.ErrCorrupt
	}
	return fmt.Errorf("idempotencyredis: %s of %s: %w", what, id, err)
}

// Claim implements [idempotency.Store]. A claim with the token that has the record already is
// granted again.
func (s *Store) Claim(ctx context.Context, c idempotency.ClaimRequest) (idempotency.Record, bool, error) {
	keys := 1
	if c.MaxOpen > 0 {
		keys = 2
	}
	reply, err := s.client.Run(ctx, s.scripts.claim, s.newClaim(&c), keys)
	if err == nil && reply == redisx.NeedsAllKeys && keys == 1 { // the record was counted under an earlier limit
		keys = 2
		reply, err = s.client.Run(ctx, s.scripts.claim, s.newClaim(&c), keys)
	}
	if err != nil {
		return idempotency.Record{}, false, failed("claim", c.ID, err)
	}
	switch {
	case len(reply) >= 21 && reply[0] == 'C':
		rec := claimedRecord(&c, reply[1:], keys == 2)
		if texts := reply[21:]; texts != "" {
			if err := parseTexts(&rec, texts); err != nil {
				return idempotency.Record{}, false, failed("record", c.ID, err)
			}
		}
		return rec, true, nil
	case len(reply) > 9 && reply[0] == 'R':
		rec, err := parseRecord(c.ID, reply[9:])
		if err != nil {
			return idempotency.Record{}, false, failed("record", c.ID, err)
		}
		view, _ := idempotency.View(&rec, moment(reply[1:])) // it exists: the script looked at the same moment
		return view, view.State == idempotency.InFlight && view.Token == c.Token, nil
	case reply == "Q":
		return idempotency.Record{}, false, idempotency.ErrTooManyOpen
	}
	return idempotency.Record{}, false, failed("claim", c.ID, fmt.Errorf("reply %.20q", reply))
}

// newClaim begins the call of a claim.
func (s *Store) newClaim(c *idempotency.ClaimRequest) *redisx.Call {
	call := s.newCall(c.ID)
	arg := call.Buffer
	arg = binary.BigEndian.AppendUint64(arg, c.Token)
	arg = append(arg, c.Fingerprint[:]...)
	arg = appendSpan(arg, c.Lease)
	arg = appendSpan(arg, c.Cap)
	arg = appendSpan(arg, c.TTL)
	arg = append(arg, bit(c.NotDispatched)|bit(c.Retry)<<1)
	arg = binary.BigEndian.AppendUint64(arg, c.RetryOf)
	arg = binary.BigEndian.AppendUint32(arg, uint32(min(max(c.MaxOpen, 0), 1<<31)))
	call.Buffer = appendTexts(arg, c)
	return call
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// claimedRecord is the record that the script has stored. reply: now, attempt, created. Without a
// limit the script takes both keys only where a further attempt stays counted, or a key that is
// claimed anew does not.
func claimedRecord(c *idempotency.ClaimRequest, reply string, bothKeys bool) idempotency.Record {
	now, attempt := moment(reply), int(short(reply[8:]))
	return idempotency.Record{
		ID: c.ID, State: idempotency.InFlight, Token: c.Token, Attempt: attempt, Fingerprint: c.Fingerprint,
		Route: c.Route, Service: c.Service, Principal: c.Principal, ClientKey: c.ClientKey,
		NotDispatched: c.NotDispatched && attempt == 1, Counted: c.MaxOpen > 0 || bothKeys && attempt > 1,
		Created: moment(reply[12:]), LeaseUntil: now.Add(micros(c.Lease)), CapUntil: now.Add(micros(c.Cap)),
		TTL: micros(c.TTL), Expires: now.Add(micros(c.Cap) + micros(c.TTL)),
	}
}

func micros(d time.Duration) time.Duration { return d.Truncate(time.Microsecond) }

// Change implements [idempotency.Store].
func (s *Store) Change(ctx context.Context, id string, token uint64, ch idempotency.Change) error {
	if ch.Op == idempotency.Finish && len(ch.Response) == 0 {
		return fmt.Errorf("idempotencyredis: finish of %s without a response", id)
	}
	call := s.newCall(id)
	arg := append(call.Buffer, byte(ch.Op))
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
	call.Buffer = arg
	switch reply, err := s.client.Run(ctx, s.scripts.change, call, 2); {
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
	reply, err := s.client.Run(ctx, s.scripts.get, s.newCall(id), 1)
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
	view, ok := idempotency.View(&rec, moment(reply))
	return view, ok, nil
}

// Resolve implements [idempotency.Store].
func (s *Store) Resolve(ctx context.Context, id string, response []byte, force bool) (bool, error) {
	call := s.newCall(id)
	arg := binary.BigEndian.AppendUint64(call.Buffer, fence.NewToken())
	arg = append(arg, bit(force), bit(response != nil))
	call.Buffer = append(arg, response...)
	switch reply, err := s.client.Run(ctx, s.scripts.resolve, call, 2); {
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
	call := redisx.NewCall()
	call.Buffer = append(append(append(call.Buffer, s.prefix...), "secret:"...), name...)
	call.EndKey()
	fresh := make([]byte, n)
	_, _ = rand.Read(fresh)
	call.Buffer = append(call.Buffer, fresh...)
	secret, err := s.client.Run(ctx, s.scripts.secret, call, 1)
	if err != nil {
		return nil, fmt.Errorf("idempotencyredis: secret %q: %w", name, err)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("idempotencyredis: secret %q has %d bytes, asked for %d", name, len(secret), n)
	}
	return []byte(secret), nil
}

// Ping implements [idempotency.Store]. In a cluster it is nil when at least one master answers,
// since that one has its part of the keys. It also notices that a master was replaced or restarted
// since the last time.
func (s *Store) Ping(ctx context.Context) error {
	err := s.watch.Ping(ctx)
	if errors.Is(err, redisx.ErrNoWrites) {
		return idempotency.NoWrites(fmt.Errorf("idempotencyredis: %w", err))
	}
	if err != nil {
		return fmt.Errorf("idempotencyredis: %w", err)
	}
	return nil
}

// Close implements [idempotency.Store]: it ends the subscription. The client is the caller's and
// stays open.
func (s *Store) Close() error {
	s.ends.close()
	return nil
}

var errClosed = errors.New("idempotencyredis: the store is closed")

package saleredis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Store is a [sale.Store] in Redis. Make it with [New]. It is safe for concurrent use.
type Store struct {
	client     *redisx.Client
	options    Options
	prefix     string
	replicated atomic.Bool // a replica is expected: there has been one
	alone      filters.LogThrottle
}

// Options are the settings of a [Store]. The zero value is ready.
type Options struct {
	// Prefix is what the keys begin with.
	Prefix string
	// Sentinel: the client finds its master by sentinels, so that a replica is expected from the beginning. Else it is
	// once there has been one.
	Sentinel bool
	// Logger is told of units that were let through with no replica to have them, though one is expected; nil: nothing
	// is logged.
	Logger *slog.Logger
	// Unreplicated counts those takings; nil: they are not counted.
	Unreplicated redisx.Counter
}

var _ sale.Store = (*Store)(nil)

// Shared returns true: other gateways sell from the same server.
func (s *Store) Shared() bool { return true }

// New makes a store. The client remains the caller's, and its timeout bounds each call.
func New(client *redisx.Client, o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{client: client, options: o, prefix: o.Prefix + "sale:{"}
	s.replicated.Store(o.Sentinel)
	return s
}

// newCall begins a call for an item, with both of its keys. Its argument is appended to the buffer.
func (s *Store) newCall(item sale.Item) *redisx.Call {
	var digested [64]byte
	b := append(append(append(digested[:0], item.Sale...), 0), item.Name...)
	sum := sha256.Sum256(b)
	c := redisx.NewCall()
	c.Buffer = append(base64.RawURLEncoding.AppendEncode(append(c.Buffer, s.prefix...), sum[:18]), '}')
	n := len(c.Buffer)
	c.EndKey()
	c.Buffer = append(append(c.Buffer, c.Buffer[:n]...), ":ids"...)
	c.EndKey()
	return c
}

func (s *Store) run(ctx context.Context, what string, item sale.Item, script *redisx.Script, c *redisx.Call) (
	reader, error,
) {
	reply, err := s.client.Run(ctx, script, c, 2)
	if err == nil && reply == redisx.NeedsAllKeys {
		err = errors.New("the slot is being moved")
	}
	if err != nil {
		return "", fmt.Errorf("saleredis: %s of %s in %s: %w", what, item.Name, item.Sale, err)
	}
	return reader(reply), nil
}

// Take implements [sale.Store].
func (s *Store) Take(ctx context.Context, r sale.TakeRequest) (sale.Taking, error) {
	c := s.newCall(r.Item)
	b := binary.BigEndian.AppendUint64(c.Buffer, r.Token)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = binary.BigEndian.AppendUint64(b, uint64(r.TTL.Microseconds()))
	b = appendInt(b, r.Quantity)
	b = appendInt(b, r.Total)
	b = appendInt(b, r.PerPrincipal)
	keep := uint64(0)
	if !r.Keep.IsZero() {
		keep = uint64(max(r.Keep.UnixMilli(), 1))
	}
	b = binary.BigEndian.AppendUint64(b, keep)
	c.Buffer = append(appendPrincipal(b, r.Principal), r.ID...)
	reply, err := s.run(ctx, "take", r.Item, take, c)
	if err != nil {
		return sale.Taking{}, err
	}
	out := sale.Taking{Verdict: sale.Verdict(reply.byte()), New: reply.byte() == 1}
	replicas := reply.byte()
	out.Counts = reply.counts()
	if err := reply.end("take"); err != nil {
		return sale.Taking{}, err
	}
	if out.Verdict == sale.Taken {
		s.noteReplicas(replicas, &r)
	}
	return out, nil
}

// noteReplicas counts units that are let through without a replica, where one is expected.
func (s *Store) noteReplicas(n byte, r *sale.TakeRequest) {
	if n > 0 {
		s.replicated.Store(true)
		return
	}
	if !s.replicated.Load() {
		return
	}
	if s.options.Unreplicated != nil {
		s.options.Unreplicated.Inc()
	}
	s.alone.Warn(s.options.Logger, time.Now(), "saleredis: units were let through that no replica has, since none is "+
		"connected: should the master be lost now, they are sold again", "sale", r.Item.Sale, "item", r.Item.Name)
}

// Settle implements [sale.Store].
func (s *Store) Settle(ctx context.Context, item sale.Item, u sale.Unit, end sale.End, lost bool) (
	sale.Counts, bool, error,
) {
	c := s.newCall(item)
	b := binary.BigEndian.AppendUint64(append(c.Buffer, byte(end)), u.Token)
	if lost {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = appendInt(b, u.Quantity)
	b = binary.BigEndian.AppendUint64(b, uint64(u.Created))
	b = binary.BigEndian.AppendUint64(b, uint64(u.TTL.Microseconds()))
	c.Buffer = append(appendPrincipal(b, u.Principal), u.ID...)
	reply, err := s.run(ctx, "settling", item, settle, c)
	if err != nil {
		return sale.Counts{}, false, err
	}
	changed := reply.byte() == 1
	return reply.counts(), changed, reply.end("settling")
}

// Open implements [sale.Store].
func (s *Store) Open(ctx context.Context, item sale.Item, what sale.Selection, limit int) ([]sale.Unit, error) {
	c := s.newCall(item)
	b := binary.BigEndian.AppendUint64(append(c.Buffer, byte(what.State)), uint64(what.Older.Microseconds()))
	c.Buffer = appendInt(b, limit)
	here := time.Now() // before the call: a unit is rather too old than too young
	reply, err := s.run(ctx, "listing", item, open, c)
	if err != nil {
		return nil, err
	}
	var out []sale.Unit
	there := int64(reply.uint(8))
	for len(reply) > 0 {
		if reply == tooShort {
			return nil, errReply("listing")
		}
		u := sale.Unit{ID: reply.text(), State: sale.State(reply.byte())}
		u.Quantity, u.Past = int(reply.uint(4)), int(reply.uint(4))
		u.Token, u.Created = reply.uint(8), int64(reply.uint(8))
		age := time.Duration(there-int64(reply.uint(8))) * time.Microsecond
		u.Taken = here.Add(-age) // so that it does not matter how Redis's clock differs from this one
		u.TTL = time.Duration(reply.uint(8)) * time.Microsecond
		u.Principal = strings.Clone(string(reply.take(sale.PrincipalDigestLength)))
		if reply == tooShort {
			return nil, errReply("listing")
		}
		out = append(out, u)
	}
	return out, nil
}

// Changes implements [sale.Store].
func (s *Store) Changes(ctx context.Context, item sale.Item, since uint64, limit int) (sale.Changes, error) {
	c := s.newCall(item)
	c.Buffer = appendInt(binary.BigEndian.AppendUint64(c.Buffer, since), limit)
	epoch := s.client.Epoch() // before the call
	reply, err := s.run(ctx, "changes", item, changes, c)
	if err != nil {
		return sale.Changes{}, err
	}
	out := sale.Changes{Counts: reply.counts(), Until: reply.uint(8), Epoch: epoch}
	for len(reply) > 0 {
		out.IDs = append(out.IDs, reply.text())
		if reply == tooShort {
			return sale.Changes{}, errReply("changes")
		}
	}
	return out, nil
}

func appendInt(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(max(n, 0))) }

// appendPrincipal appends a digest in its fixed length.
func appendPrincipal(b []byte, digest string) []byte {
	var fixed [sale.PrincipalDigestLength]byte
	copy(fixed[:], digest)
	return append(b, fixed[:]...)
}

// reader reads a reply. One that is too short becomes [tooShort] and reads as zeros.
type reader string

const tooShort reader = "\xffshort"

func errReply(what string) error { return fmt.Errorf("saleredis: %s: the reply is malformed", what) }

func (r *reader) take(n int) reader {
	if len(*r) < n || *r == tooShort {
		*r = tooShort
		return ""
	}
	head := (*r)[:n]
	*r = (*r)[n:]
	return head
}

func (r *reader) uint(n int) (v uint64) {
	for _, c := range []byte(r.take(n)) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *reader) byte() byte { return byte(r.uint(1)) }

func (r *reader) text() string { return string(r.take(int(r.uint(2)))) }

func (r *reader) counts() sale.Counts {
	return sale.Counts{
		Taken: int(r.uint(8)), Confirmed: int(r.uint(8)), Unknown: int(r.uint(8)), Returned: int(r.uint(8)),
		Version: r.uint(8),
	}
}

// end returns an error when the reply was too short, or something is left of it.
func (r *reader) end(what string) error {
	if *r != "" {
		return errReply(what)
	}
	return nil
}

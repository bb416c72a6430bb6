package saleredis

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// Store is a [sale.Store] in Redis. Make it with [New]. It is safe for concurrent use.
type Store struct {
	client     server
	options    Options
	prefix     string
	divided    dividedItems // that are known
	replicated atomic.Bool  // a replica is expected: there has been one
	alone      filters.LogThrottle
}

// Options are the settings of a [Store]. The zero value is ready.
type Options struct {
	// Prefix is what the keys begin with.
	Prefix string
	// Sentinel: the client finds its master by sentinels, so that a replica is expected from the beginning. Else it is
	// once there has been one.
	Sentinel bool
	// Divide is the stock from which on an item that is new is divided into parts; 0: none is. See [DivideFrom].
	Divide int
	// Logger is told of units that were let through with no replica to have them, though one is expected; nil: nothing
	// is logged.
	Logger *slog.Logger
	// Unreplicated counts those takings; nil: they are not counted.
	Unreplicated redisx.Counter
}

// server runs scripts: a [redisx.Client].
type server interface {
	Run(ctx context.Context, script *redisx.Script, call *redisx.Call, keys int) (string, error)
	Epoch() uint64
	Timeout() time.Duration
}

var _ sale.Store = (*Store)(nil)

// Shared returns true: other gateways sell from the same server.
func (s *Store) Shared() bool { return true }

// New makes a store. The client remains the caller's, and its timeout bounds each call.
func New(client *redisx.Client, o Options) *Store { return newStore(client, o) }

func newStore(client server, o Options) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{client: client, options: o, prefix: o.Prefix + "sale:{"}
	s.replicated.Store(o.Sentinel)
	return s
}

// digest names an item in its keys.
type digest [18]byte

func digestOf(item sale.Item) digest {
	var text [64]byte
	sum := sha256.Sum256(append(append(append(text[:0], item.Sale...), 0), item.Name...))
	return digest(sum[:18])
}

// newCall begins a call for an item, with both of its keys. Its argument is appended to the buffer.
func (s *Store) newCall(of digest) *redisx.Call {
	c := redisx.NewCall()
	c.Buffer = append(base64.RawURLEncoding.AppendEncode(append(c.Buffer, s.prefix...), of[:]), '}')
	return endKeys(c)
}

// endKeys makes what the buffer has the first key, and derives the second one from it.
func endKeys(c *redisx.Call) *redisx.Call {
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
	d, of := s.divided.find(r.Item)
	for range 2 {
		if d == nil {
			out, divided, err := s.takeWhole(ctx, of, &r)
			if err != nil || divided == nil {
				return out, err
			}
			d = divided
		}
		out, err := s.takeDivided(ctx, d, &r)
		if !errors.Is(err, errNotDivided) {
			return out, err
		}
		s.divided.forget(of)
		d = nil
	}
	return sale.Taking{}, fmt.Errorf("saleredis: take of %s in %s: %w", r.Item.Name, r.Item.Sale, errNotDivided)
}

// modes of [takeScript].
const (
	wholeItem byte = iota
	dividedIfNew
	partOfItem
)

// takeWhole takes units of an item that is not divided. Where it is, or is to be, it takes nothing and says how.
func (s *Store) takeWhole(ctx context.Context, of digest, r *sale.TakeRequest) (sale.Taking, *dividedItem, error) {
	mode := wholeItem
	if s.options.Divide > 0 && r.Total >= s.options.Divide {
		mode = dividedIfNew
	}
	c := s.newCall(of)
	c.Buffer = appendTake(c.Buffer, mode, r, grantOfPart{})
	reply, err := s.run(ctx, "take", r.Item, take, c)
	if err != nil {
		return sale.Taking{}, nil, err
	}
	if reply == isNew {
		return sale.Taking{}, s.divided.add(s, of, partsNew), nil
	}
	if parts, ok, err := reply.divided(); ok {
		if err != nil {
			return sale.Taking{}, nil, err
		}
		return sale.Taking{}, s.divided.add(s, of, parts), nil
	}
	out, replicas := reply.taking()
	if err := reply.end("take"); err != nil {
		return sale.Taking{}, nil, err
	}
	if out.Verdict == sale.Taken {
		s.noteReplicas(replicas, r.Item)
	}
	return out, nil, nil
}

// appendTake appends the argument of [takeScript].
func appendTake(b []byte, mode byte, r *sale.TakeRequest, g grantOfPart) []byte {
	b = binary.BigEndian.AppendUint64(append(b, mode), r.Token)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Created))
	b = binary.BigEndian.AppendUint64(b, uint64(r.TTL.Microseconds()))
	b = appendInt(b, r.Quantity)
	b = appendInt(b, r.Total)
	b = appendInt(b, r.PerPrincipal)
	b = binary.BigEndian.AppendUint64(b, keepMillis(r.Keep))
	return append(g.append(appendPrincipal(b, r.Principal)), r.ID...)
}

// keepMillis returns until when keys are kept, as the scripts take it.
func keepMillis(keep time.Time) uint64 {
	if keep.IsZero() {
		return 0
	}
	return uint64(max(keep.UnixMilli(), 1))
}

// noteReplicas counts units that are let through without a replica, where one is expected.
func (s *Store) noteReplicas(n byte, item sale.Item) {
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
		"connected: should the master be lost now, they are sold again", "sale", item.Sale, "item", item.Name)
}

// Settle implements [sale.Store].
func (s *Store) Settle(ctx context.Context, item sale.Item, u sale.Unit, end sale.End, lost bool) (
	sale.Counts, bool, error,
) {
	d, of := s.divided.find(item)
	if d == nil {
		reply, err := s.settle(ctx, item, s.newCall(of), &u, end, lost)
		if err != nil {
			return sale.Counts{}, false, err
		}
		parts, isDivided, err := reply.divided()
		if err != nil {
			return sale.Counts{}, false, err
		}
		if !isDivided {
			changed := reply.byte() == 1
			return reply.counts(), changed, reply.end("settling")
		}
		d = s.divided.add(s, of, parts)
	}
	return s.settleDivided(ctx, item, d, &u, end, lost)
}

// settle runs the script on an item or a part, whose keys the call has.
func (s *Store) settle(ctx context.Context, item sale.Item, c *redisx.Call, u *sale.Unit, end sale.End, lost bool) (
	reader, error,
) {
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
	return s.run(ctx, "settling", item, settle, c)
}

// Open implements [sale.Store].
func (s *Store) Open(ctx context.Context, item sale.Item, what sale.Selection, limit int) ([]sale.Unit, error) {
	d, of := s.divided.find(item)
	if d == nil {
		reply, here, err := s.list(ctx, item, s.newCall(of), what, limit)
		if err != nil {
			return nil, err
		}
		parts, isDivided, err := reply.divided()
		if err != nil {
			return nil, err
		}
		if !isDivided {
			return reply.units(here)
		}
		d = s.divided.add(s, of, parts)
	}
	return s.openDivided(ctx, item, d, what, limit)
}

// list runs the script that lists units of an item or a part, and says when it began.
func (s *Store) list(ctx context.Context, item sale.Item, c *redisx.Call, what sale.Selection, limit int) (
	reader, time.Time, error,
) {
	b := binary.BigEndian.AppendUint64(append(c.Buffer, byte(what.State)), uint64(what.Older.Microseconds()))
	c.Buffer = appendInt(b, limit)
	here := time.Now() // before the call: a unit is rather too old than too young
	reply, err := s.run(ctx, "listing", item, open, c)
	return reply, here, err
}

// Changes implements [sale.Store].
func (s *Store) Changes(ctx context.Context, item sale.Item, since sale.Mark, limit int) (sale.Changes, error) {
	d, of := s.divided.find(item)
	epoch := s.client.Epoch() // before the call
	if d == nil {
		reply, err := s.changes(ctx, item, s.newCall(of), since.Version, limit)
		if err != nil {
			return sale.Changes{}, err
		}
		parts, isDivided, err := reply.divided()
		if err != nil {
			return sale.Changes{}, err
		}
		if !isDivided {
			out := sale.Changes{Epoch: epoch}
			out.Counts, out.Until.Version, out.IDs, err = reply.changes()
			return out, err
		}
		d = s.divided.add(s, of, parts)
	}
	return s.changesDivided(ctx, item, d, since, limit, epoch)
}

// changes runs the script that lists IDs of an item or a part.
func (s *Store) changes(ctx context.Context, item sale.Item, c *redisx.Call, since uint64, limit int) (reader, error) {
	c.Buffer = appendInt(binary.BigEndian.AppendUint64(c.Buffer, since), limit)
	return s.run(ctx, "changes", item, changes, c)
}

func appendInt(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(max(n, 0))) }

// appendPrincipal appends a digest in its fixed length.
func appendPrincipal(b []byte, digest string) []byte {
	var fixed [sale.PrincipalDigestLength]byte
	copy(fixed[:], digest)
	return append(b, fixed[:]...)
}

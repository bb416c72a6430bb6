package saleredis

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

const (
	// DivideFrom is the stock from which on an item is worth dividing: less of it is sold before one server is busy for
	// as long as an operator could notice, and what is sold out is told from memory.
	DivideFrom = 50_000
	// partsNew is how many parts an item is divided into.
	partsNew = 8
	// dividedMax is how many divided items are known at most, at some KB each; which are others is asked again.
	dividedMax = 10_000
	slots      = 16384
)

// errNotDivided says that an item which was divided is not.
var errNotDivided = errors.New("the item is not divided any more")

// dividedItem is what is known of an item that is divided. It is safe for concurrent use.
type dividedItem struct {
	of    digest
	parts []string      // the first key of each
	fetch chan struct{} // full while units are fetched for a part
	kept  atomic.Uint64 // until when the books are kept, as they were told by this process

	mu      sync.Mutex
	read    bool // the numbers of the parts, or tried to
	numbers []sale.Counts
	soldOut *soldOut // the last time that it was found to be; nil: never
}

// soldOut is a moment at which fewer than so many units were left.
type soldOut struct {
	since time.Time // a moment before it
	want  int
	total int
	sum   sale.Counts
}

// dividedItems are the divided items that are known. The zero value is empty. It is safe for concurrent use.
type dividedItems struct {
	mu sync.RWMutex
	of map[digest]*dividedItem
}

// find returns a divided item that is known, or nil, and the digest of any.
func (k *dividedItems) find(item sale.Item) (*dividedItem, digest) {
	of := digestOf(item)
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.of[of], of
}

// add makes an item known that is divided into so many parts.
func (k *dividedItems) add(s *Store, of digest, parts int) *dividedItem {
	made := &dividedItem{of: of, fetch: make(chan struct{}, 1), numbers: make([]sale.Counts, parts)}
	for i := range parts {
		made.parts = append(made.parts, s.prefix+partTag(of, i, parts)+"}")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.of[of]; d != nil && len(d.parts) == parts {
		return d
	}
	if k.of == nil {
		k.of = map[digest]*dividedItem{}
	}
	if len(k.of) >= dividedMax {
		for other := range k.of { // any
			delete(k.of, other)
			break
		}
	}
	k.of[of] = made
	return made
}

// forget makes an item unknown.
func (k *dividedItems) forget(of digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, of)
}

// partTag returns the hash tag of a part. The parts of an item lie in equal ranges of the slots, one in each, so that
// servers with equal ranges have equally many: the tag is numbered by the first number that falls into the range.
func partTag(of digest, part, parts int) string {
	text := base64.RawURLEncoding.EncodeToString(of[:])
	for n := 0; ; n++ {
		if tag := fmt.Sprintf("%s.%d", text, n); int(crc16(tag))%slots*parts/slots == part {
			return tag
		}
	}
}

// crc16 is the hash of Redis Cluster's slots: CRC-16/XMODEM.
func crc16(text string) (sum uint16) {
	for i := range len(text) {
		sum ^= uint16(text[i]) << 8
		for range 8 {
			if carry := sum&0x8000 != 0; carry {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
	}
	return sum
}

// partOf returns the part that has the units of a principal.
func (d *dividedItem) partOf(principal string) int { return int(crc16(principal)) % len(d.parts) }

// newCall begins a call for a part.
func (d *dividedItem) newCall(part int) *redisx.Call {
	c := redisx.NewCall()
	c.Buffer = append(c.Buffer, d.parts[part]...)
	return endKeys(c)
}

// noteLocked takes the numbers of a part, unless newer ones are known.
func (d *dividedItem) noteLocked(part int, c sale.Counts) {
	if c.Version >= d.numbers[part].Version {
		d.numbers[part] = c
	}
}

func (d *dividedItem) sumLocked() (sum sale.Counts) {
	for _, c := range d.numbers {
		sum = add(sum, c)
	}
	sum.Mixed = true
	return sum
}

// add returns the sum of numbers.
func add(a, b sale.Counts) sale.Counts {
	return sale.Counts{
		Taken: a.Taken + b.Taken, Confirmed: a.Confirmed + b.Confirmed, Unknown: a.Unknown + b.Unknown,
		Returned: a.Returned + b.Returned, Version: a.Version + b.Version,
	}
}

// note takes the numbers of a part, and returns those of the item.
func (d *dividedItem) note(part int, c sale.Counts) sale.Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteLocked(part, c)
	return d.sumLocked()
}

// firstRead reports whether the numbers of the parts are yet to be read, and is true once.
func (d *dividedItem) firstRead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := !d.read
	d.read = true
	return first
}

// settleDivided settles a unit in the part that has it.
func (s *Store) settleDivided(ctx context.Context, item sale.Item, d *dividedItem, u *sale.Unit, end sale.End,
	lost bool) (sale.Counts, bool, error) {
	s.readOnce(ctx, item, d)
	part := d.partOf(u.Principal)
	reply, err := s.settle(ctx, item, d.newCall(part), u, end, lost)
	if err != nil {
		return sale.Counts{}, false, err
	}
	changed := reply.byte() == 1
	c := reply.counts()
	if err := reply.end("settling"); err != nil {
		return sale.Counts{}, false, err
	}
	return d.note(part, c), changed, nil
}

// readOnce reads the numbers of all parts, when the item has just become known. Where a server is gone the others sell
// all the same, and the numbers come with the next reading.
func (s *Store) readOnce(ctx context.Context, item sale.Item, d *dividedItem) {
	if d.firstRead() {
		_, _ = s.changesDivided(ctx, item, d, sale.Latest, 0, s.client.Epoch())
	}
}

// eachPart does something for every part at once, and returns the first error.
func (d *dividedItem) eachPart(do func(part int) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(d.parts))
	for part := range d.parts {
		all.Go(func() { errs[part] = do(part) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// openDivided lists units of all parts. Those beyond the limit are left out from a part on that changes.
func (s *Store) openDivided(ctx context.Context, item sale.Item, d *dividedItem, what sale.Selection, limit int) (
	[]sale.Unit, error,
) {
	lists := make([][]sale.Unit, len(d.parts))
	each := (limit + len(d.parts) - 1) / len(d.parts)
	err := d.eachPart(func(part int) error {
		reply, here, err := s.list(ctx, item, d.newCall(part), what, each)
		if err == nil {
			lists[part], err = reply.units(here)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var out []sale.Unit
	first := rand.IntN(len(lists))
	for i := range lists {
		out = append(out, lists[(first+i)%len(lists)]...)
	}
	return out[:min(len(out), limit)], nil
}

// changesOfPart are the IDs that have taken units of a part.
type changesOfPart struct {
	counts sale.Counts
	until  uint64
	ids    []string
}

// changesDivided lists the IDs of all parts. The numbers are those of one moment if no part has changed between two
// looks at all of them.
func (s *Store) changesDivided(ctx context.Context, item sale.Item, d *dividedItem, since sale.Mark, limit int,
	epoch uint64) (sale.Changes, error) {
	from := d.versions(since)
	first, second, err := s.lookTwice(ctx, item, d, from, limit)
	if err != nil {
		return sale.Changes{}, err
	}
	out := sale.Changes{Epoch: epoch, Until: sale.Mark{Parts: make([]uint64, len(d.parts))}}
	order := make([]int, len(first))
	mixed := false
	for i := range order {
		order[i] = i
		out.Counts = add(out.Counts, first[i].counts)
		mixed = mixed || first[i].counts.Version != second[i].counts.Version
	}
	out.Counts.Mixed = mixed
	// Longest first: one that is as long as the limit has to fit.
	slices.SortStableFunc(order, func(a, b int) int { return len(first[b].ids) - len(first[a].ids) })
	for _, i := range order {
		if len(out.IDs)+len(first[i].ids) <= limit || len(first[i].ids) == 0 {
			out.IDs = append(out.IDs, first[i].ids...)
			out.Until.Parts[i] = first[i].until
		} else {
			out.Until.Parts[i] = from[i]
		}
		out.Until.Version += out.Until.Parts[i]
	}
	return out, nil
}

// versions returns the version of each part that a mark stands for.
func (d *dividedItem) versions(since sale.Mark) []uint64 {
	if len(since.Parts) == len(d.parts) {
		return since.Parts
	}
	if since.Version == sale.Latest.Version {
		return slices.Repeat([]uint64{since.Version}, len(d.parts))
	}
	return make([]uint64, len(d.parts))
}

// lookTwice reads all parts, and then their numbers once more.
func (s *Store) lookTwice(ctx context.Context, item sale.Item, d *dividedItem, from []uint64, limit int) (
	first, second []changesOfPart, err error,
) {
	if first, err = s.readParts(ctx, item, d, from, limit); err != nil {
		return nil, nil, err
	}
	second, err = s.readParts(ctx, item, d, d.versions(sale.Latest), 0)
	return first, second, err
}

// readParts reads all parts, and takes their numbers.
func (s *Store) readParts(ctx context.Context, item sale.Item, d *dividedItem, since []uint64, limit int) (
	[]changesOfPart, error,
) {
	d.mu.Lock()
	known := slices.Clone(d.numbers)
	d.mu.Unlock()
	out := make([]changesOfPart, len(d.parts))
	err := d.eachPart(func(part int) error {
		reply, err := s.changes(ctx, item, d.newCall(part), since[part], limit)
		if err == nil {
			out[part].counts, out[part].until, out[part].ids, err = reply.changes()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range out {
		if c := out[i].counts; c.Version < known[i].Version { // the part has lost steps
			d.numbers[i] = c
		} else {
			d.noteLocked(i, c)
		}
	}
	return out, nil
}

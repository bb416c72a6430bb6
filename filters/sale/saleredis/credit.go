package saleredis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
)

const (
	// keepLonger is how much longer the books are kept than the parts.
	keepLonger = 7 * 24 * time.Hour
	// fetchRounds bounds how often the parts are asked for units in one taking. Each further round means that others
	// were granted some meanwhile.
	fetchRounds = 20
	// fetchTimeouts is how many times the client's timeout a taking lasts at most for which units are fetched.
	fetchTimeouts = 4
)

var errMoving = errors.New("its units are granted to other parts all the time")

// grantOfPart is what a part is granted: by what it is told, it can take units. The zero value grants nothing.
type grantOfPart struct {
	granted uint64 // ever
	under   int    // the total
	second  bool   // all had been given out before
	chunk   int    // with it
}

// append appends the grant as the scripts take it.
func (g grantOfPart) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, g.granted)
	b = binary.BigEndian.AppendUint64(b, uint64(g.under))
	if g.second {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return appendInt(b, g.chunk)
}

// report is what a part says of its credit.
type report struct {
	part                 int
	granted, back, taken uint64
	idle                 bool // it takes nothing by what it has
}

func (r *report) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, byte(r.part)), r.granted)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, r.back), r.taken)
	if r.idle {
		return append(b, 1)
	}
	return append(b, 0)
}

// credit reads the credit of a part.
func (r *reader) credit(part int, c sale.Counts) report {
	return report{
		part: part, taken: uint64(max(c.Taken, 0)), granted: r.uint(8), back: r.uint(8), idle: r.byte() == 1,
	}
}

// Flags of a part that has taken units.
const (
	soldAgain = 1 << iota
	fewLeft
)

// takeDivided takes units in the part of the principal. Where they are not enough there, it fetches some.
func (s *Store) takeDivided(ctx context.Context, d *dividedItem, r *sale.TakeRequest) (sale.Taking, error) {
	s.readOnce(ctx, r.Item, d)
	f := fetching{s: s, d: d, r: r, part: d.partOf(r.Principal), began: time.Now()}
	out, err := f.take(ctx, grantOfPart{})
	if err == nil && out.Verdict == 0 {
		out, err = f.fetchAndTake(ctx)
	}
	if err != nil {
		return sale.Taking{}, fmt.Errorf("saleredis: take of %s in %s: %w", r.Item.Name, r.Item.Sale, err)
	}
	return out, nil
}

// fetching is one taking from a divided item.
type fetching struct {
	s     *Store
	d     *dividedItem
	r     *sale.TakeRequest
	part  int
	began time.Time
	// Set by a taking that found too few units.
	want  int
	short report
}

// take takes units in the part. Without a verdict there are too few.
func (f *fetching) take(ctx context.Context, g grantOfPart) (sale.Taking, error) {
	s, r := f.s, f.r
	c := f.d.newCall(f.part)
	c.Buffer = appendTake(c.Buffer, partOfItem, r, g)
	reply, err := s.run(ctx, "take", r.Item, take, c)
	if err != nil {
		return sale.Taking{}, err
	}
	if len(reply) > 0 && reply[0] == 'N' {
		reply.byte()
		counts := reply.counts()
		f.want = int(reply.uint(4))
		f.short = reply.credit(f.part, counts)
		// What it gave back no replica may have yet: the books are told by a recall, which waits for that.
		f.short.back, f.short.idle = 0, false
		f.d.note(f.part, counts)
		return sale.Taking{}, reply.end("take")
	}
	out, replicas := reply.taking()
	flags := reply.byte()
	if err := reply.end("take"); err != nil {
		return sale.Taking{}, err
	}
	out.Counts = f.d.note(f.part, out.Counts)
	if out.Verdict == sale.Taken {
		s.noteReplicas(replicas, r.Item)
		out.Again = flags&soldAgain != 0
		if flags&fewLeft != 0 {
			f.fetchAhead(ctx)
		}
		f.keepBooks(ctx)
	}
	return out, nil
}

// fetchAhead fetches units before the part has none, so that nobody waits for them. One taking does for each grant.
func (f *fetching) fetchAhead(ctx context.Context) {
	reply, err := f.s.ask(ctx, f.d, &ask{item: f.r.Item, part: f.part, want: 1, total: f.r.Total, keep: f.r.Keep})
	if err != nil || reply.what != granted {
		return // it is done when it is needed
	}
	c := f.d.newCall(f.part)
	c.Buffer = reply.grant.append(c.Buffer)
	_, _ = f.s.run(ctx, "grant", f.r.Item, adopt, c)
}

// keepBooks has the books kept as long as the parts.
func (f *fetching) keepBooks(ctx context.Context) {
	if keep := keepMillis(f.r.Keep) + 1; f.d.kept.Swap(keep) != keep {
		f.fetchAhead(ctx)
	}
}

// fetchAndTake has units granted to the part, and takes them.
func (f *fetching) fetchAndTake(ctx context.Context) (sale.Taking, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeouts*f.s.client.Timeout())
	defer cancel()
	select {
	case f.d.fetch <- struct{}{}:
	case <-ctx.Done():
		return sale.Taking{}, ctx.Err()
	}
	defer func() { <-f.d.fetch }()
	if out, ok := f.soldOutMeanwhile(); ok {
		return out, nil
	}
	g := grantOfPart{}
	for range fetchRounds {
		out, err := f.take(ctx, g) // what was fetched meanwhile, or for this
		if err != nil || out.Verdict != 0 {
			return out, err
		}
		g, out, err = f.fetch(ctx)
		if err != nil || out.Verdict != 0 {
			return out, err
		}
	}
	return sale.Taking{}, errMoving
}

// soldOutMeanwhile replies to a taking that waited while it was found that too few units are left.
func (f *fetching) soldOutMeanwhile() (sale.Taking, bool) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	last := f.d.soldOut
	if last == nil || last.since.Before(f.began) || f.want < last.want || f.r.Total > last.total {
		return sale.Taking{}, false
	}
	return sale.Taking{Verdict: sale.SoldOut, Counts: last.sum}, true
}

// fetch has units granted to the part. The verdict is none or sold out.
func (f *fetching) fetch(ctx context.Context) (grantOfPart, sale.Taking, error) {
	a := ask{
		item: f.r.Item, part: f.part, want: f.want, total: f.r.Total, keep: f.r.Keep, reports: []report{f.short},
	}
	var failed error
	for range fetchRounds {
		reply, err := f.s.ask(ctx, f.d, &a)
		switch {
		case err != nil:
			return grantOfPart{}, sale.Taking{}, err
		case reply.what == granted:
			return reply.grant, sale.Taking{}, nil
		case failed != nil: // what the other parts have is not enough
			return grantOfPart{}, sale.Taking{}, failed
		}
		out, err := f.look(ctx)
		if err != nil || out.Verdict != 0 {
			return grantOfPart{}, out, err
		}
		a.reports, failed = f.s.recallAll(ctx, f.d, &a, reply.granted)
	}
	return grantOfPart{}, sale.Taking{}, errMoving
}

// look looks whether the item is sold out: whether at some moment between two looks at all parts too few units were
// left. If no part has changed, the numbers are those of that moment. If units were taken and none came back, no fewer
// were taken by then than at the first look; a request for one unit, which must be told exactly, does not rely on that,
// for in a claim that takes over from another one units can come back uncounted.
func (f *fetching) look(ctx context.Context) (sale.Taking, error) {
	began := time.Now()
	first, second, err := f.s.lookTwice(ctx, f.r.Item, f.d, f.d.versions(sale.Latest), 0)
	if err != nil {
		return sale.Taking{}, err
	}
	var sum sale.Counts
	exact, grew := true, true
	for i := range first {
		a, b := first[i].counts, second[i].counts
		exact = exact && a.Version == b.Version
		grew = grew && a.Returned == b.Returned && a.Taken <= b.Taken
		sum = add(sum, a)
	}
	if f.r.Total-sum.Taken >= f.want || !exact && (!grew || f.want == 1) {
		return sale.Taking{}, nil
	}
	sum.Mixed = true
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.soldOut = &soldOut{since: began, want: f.want, total: f.r.Total, sum: sum}
	return sale.Taking{Verdict: sale.SoldOut, Counts: sum}, nil
}

// ask asks the books for units.
type ask struct {
	item    sale.Item
	part    int
	want    int
	total   int
	keep    time.Time
	reports []report
}

// granted is what the books say to a part that is granted units. Else the parts have to give some back.
const granted = 1

// books is what the books reply.
type books struct {
	what    byte
	grant   grantOfPart
	granted []uint64 // to each part
}

// ask asks the books for units for a part, and tells them what parts say.
func (s *Store) ask(ctx context.Context, d *dividedItem, a *ask) (books, error) {
	keep := keepMillis(a.keep)
	booksKeep := uint64(0)
	if keep != 0 {
		booksKeep = keep + uint64(keepLonger.Milliseconds())
	}
	c := s.newCall(d.of)
	b := appendInt(append(c.Buffer, byte(len(d.parts)), byte(a.part)), a.want)
	b = binary.BigEndian.AppendUint64(appendInt(b, a.total), booksKeep)
	b = append(b, byte(len(a.reports)))
	for i := range a.reports {
		b = a.reports[i].append(b)
	}
	c.Buffer = b
	reply, err := s.run(ctx, "grant", a.item, grant, c)
	if err != nil {
		return books{}, err
	}
	if reply == notDivided {
		return books{}, errNotDivided
	}
	out := books{what: reply.byte()}
	reply.byte()
	replicas := reply.byte()
	if form, parts := reply.byte(), int(reply.byte()); form != formKnown || parts != len(d.parts) {
		return books{}, errNotDivided // not as it was: it is asked again
	}
	out.grant.granted, out.grant.under = reply.uint(8), reply.int()
	out.grant.second, out.grant.chunk = reply.byte() == 1, int(reply.uint(4))
	for range d.parts {
		out.granted = append(out.granted, reply.uint(8))
	}
	if err := reply.end("grant"); err != nil {
		return books{}, err
	}
	if out.what == granted {
		s.noteReplicas(replicas, a.item)
	}
	return out, nil
}

// recallAll has every part give back what it has left. It returns what they say; the error says that some did not.
func (s *Store) recallAll(ctx context.Context, d *dividedItem, a *ask, granted []uint64) ([]report, error) {
	reports := make([]report, len(d.parts))
	err := d.eachPart(func(part int) error {
		c := d.newCall(part)
		c.Buffer = binary.BigEndian.AppendUint64(c.Buffer, granted[part])
		c.Buffer = binary.BigEndian.AppendUint64(c.Buffer, keepMillis(a.keep))
		reply, err := s.run(ctx, "recall", a.item, recall, c)
		if err != nil {
			return err
		}
		_, replicas := reply.uint(2), reply.byte()
		counts := reply.counts()
		reports[part] = reply.credit(part, counts)
		if err := reply.end("recall"); err != nil {
			return err
		}
		s.noteReplicas(replicas, a.item)
		d.note(part, counts)
		return nil
	})
	if err == nil {
		return reports, nil
	}
	said := reports[:0]
	for _, r := range reports {
		if r.idle { // as those are that were asked
			said = append(said, r)
		}
	}
	return said, err
}

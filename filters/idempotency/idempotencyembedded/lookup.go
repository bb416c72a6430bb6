package idempotencyembedded

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// errAgain says that a call cannot be decided before something was waited for or read.
var errAgain = errors.New("again")

// lookup is the search for the record of an ID. A call is decided under the mutex, by one method that
// holds it from locateLocked to its end. Where that cannot be since a step of the record is being written,
// or since the record lies on disk only, the method returns errAgain; again then waits or reads without
// the mutex, and the method is called once more. What was read holds when the index still says the same.
type lookup struct {
	id   string
	hash uint64
	down error // why no step is taken, nil when they are

	e   *entry             // of a record in memory
	at  seglog.Ref         // of one in the index
	rec idempotency.Record // which was read there

	wait    *seglog.Batch // what has to be waited for
	read    bool          // the candidates have been read
	readErr error
	few     [4]seglog.Ref // the candidates: what the index had of the ID's hash
	n       int
	many    []seglog.Ref // when they are more than few takes
}

func (f *lookup) candidates() []seglog.Ref {
	if f.many != nil {
		return f.many
	}
	return f.few[:f.n]
}

func (f *lookup) setCandidates(refs []seglog.Ref) {
	f.n, f.many = copy(f.few[:], refs), nil
	if len(refs) > len(f.few) {
		f.many = slices.Clone(refs)
	}
}

// record returns what stands for the ID, nil without a record.
func (f *lookup) record() *idempotency.Record {
	switch {
	case f.e != nil:
		return f.e.record()
	case f.at.Len != 0:
		return &f.rec
	}
	return nil
}

// begin begins the search for a record.
func (s *Store) begin(ctx context.Context, id string, f *lookup) error {
	if len(id) > idMax {
		return fmt.Errorf("idempotencyembedded: an ID of %d bytes, at most %d", len(id), idMax)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("idempotencyembedded: %w", err)
	}
	f.id, f.hash = id, s.hash(id)
	return nil
}

// locateLocked finds what stands for the ID when no step of it is being written. The error may be errAgain.
func (s *Store) locateLocked(f *lookup) error {
	c := s.log.ConditionLocked()
	if c.Stalled != nil {
		return notTaken(c.Stalled)
	}
	f.down, f.wait = c.Down, c.Full
	if f.wait != nil {
		return errAgain
	}
	if f.e = s.records.open[f.id]; f.e != nil {
		if f.wait = f.e.batch; f.wait != nil {
			return errAgain
		}
		return nil
	}
	var buf [4]seglog.Ref
	refs := s.records.index.find(f.hash, buf[:0])
	switch {
	case len(refs) == 0:
		f.at = seglog.Ref{}
		return nil
	case f.read && slices.Equal(refs, f.candidates()):
		return f.readErr
	}
	f.setCandidates(refs)
	return errAgain
}

// again does what locateLocked asked for with errAgain. It returns any other error as it is.
func (s *Store) again(ctx context.Context, f *lookup, err error) error {
	if err != errAgain {
		return err
	}
	if f.wait == nil {
		s.readCandidates(f)
		err = nil
	} else if err = f.wait.Wait(ctx); errors.Is(err, ErrFailed) { // the failure of that step is not this call's
		err = nil
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("idempotencyembedded: %w", err)
	}
	return nil
}

// readCandidates reads the candidates until one is of the ID.
func (s *Store) readCandidates(f *lookup) {
	f.read, f.at, f.readErr = true, seglog.Ref{}, nil
	for _, at := range f.candidates() {
		v, err := s.log.Read(at)
		if err == nil {
			if string(v.Key) != f.id {
				continue
			}
			if f.rec, err = decode(v); err == nil {
				f.at = at
				return
			}
			err = fmt.Errorf("file %s, offset %d: %w", s.log.Path(at.Segment), at.Offset, err)
		}
		if errors.Is(err, seglog.ErrGone) || errors.Is(err, ErrClosed) {
			f.readErr = notTaken(err)
			return
		}
		s.badReads.Add(1)
		s.logger.Error("a record of the embedded store cannot be read",
			"file", s.log.Path(at.Segment), "offset", at.Offset, "bytes", at.Len, "error", err)
		f.readErr = notTaken(fmt.Errorf("idempotencyembedded: %w", asCorrupt(err)))
		return
	}
}

// decode reads the record of an entry. One in flight is of a dead process: those of this one are in memory.
func decode(v seglog.Entry) (idempotency.Record, error) {
	rec, err := idempotency.RecordIn(v.Body) // of memory that was read for this alone
	if rec.State == idempotency.InFlight {
		rec.State, rec.NotDispatched = idempotency.Unknown, false
	}
	return rec, err
}

// asCorrupt makes an error of the log that says so one of the policy.
func asCorrupt(err error) error {
	if errors.Is(err, seglog.ErrCorrupt) {
		return fmt.Errorf("%w: %w", idempotency.ErrCorrupt, err)
	}
	return err
}

// notTaken says of a step that it was certainly not taken.
func notTaken(why error) error { return fmt.Errorf("%w: %w", idempotency.ErrNotTaken, why) }

// outcome waits for the batch of a step. Without one there is nothing to wait for.
func outcome(ctx context.Context, b *seglog.Batch) error {
	if b == nil {
		return nil
	}
	err := b.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFailed):
		return notTaken(err)
	}
	return fmt.Errorf("idempotencyembedded: %w", err)
}

// waitReadable waits until the batch that is gathered has room, and returns why the store cannot even be
// read. The log may be down.
func (s *Store) waitReadable(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("idempotencyembedded: %w", err)
		}
		c := s.log.Condition()
		if c.Stalled != nil {
			return notTaken(c.Stalled)
		}
		if c.Full == nil {
			return nil
		}
		if err := c.Full.Wait(ctx); err != nil && !errors.Is(err, ErrFailed) {
			return fmt.Errorf("idempotencyembedded: %w", err)
		}
	}
}

// waitWritable waits until a step can be taken, and returns why none can.
func (s *Store) waitWritable(ctx context.Context) error {
	if err := s.waitReadable(ctx); err != nil {
		return err
	}
	if down := s.log.Condition().Down; down != nil {
		return notTaken(down)
	}
	return nil
}

package message

import (
	"io"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Whole is a body that is kept in memory, whole or until it shows to be too long for that. It grows
// by what has come and not by what was announced, draws what it allocates on the account of a
// connection, and leaves no garbage but the one piece of a body that was longer than 64 KiB. Its
// zero value is ready for Begin; it belongs to one goroutine.
//
// It is in pieces of 64 KiB, the first one smaller as long as that is enough, until half of the
// announced length has come, or all of a length that was not: then it is copied into one piece.
type Whole struct {
	account   *budget.Account
	announced int64 // -1: not known
	charged   int64 // of the account

	small  *[SmallBuffer]byte       // the first piece, when it is a small one
	pieces []*[LargeBufferSize]byte // all full but the last
	one    []byte                   // the piece that holds all of it, when it is neither
	filled int64
}

// Begin readies it for a body of that length, -1 when it is not known.
func (w *Whole) Begin(a *budget.Account, announced int64) { w.account, w.announced = a, announced }

// Len is how much has come.
func (w *Whole) Len() int64 { return w.filled }

// ReadAll reads a body to its end and returns it, good until Release. The error is
// [filters.ErrOverloaded] when there is no room for it, or one of r.
func (w *Whole) ReadAll(r io.Reader) ([]byte, error) {
	for {
		room, err := w.Room()
		if err != nil {
			return nil, err
		}
		n, err := r.Read(room)
		w.Add(n)
		if err == io.EOF {
			return w.Bytes()
		}
		if err != nil {
			return nil, err
		}
	}
}

// Room returns where to read what comes next. Behind the announced length it is empty: all that comes
// then is the end. The error is [filters.ErrOverloaded].
func (w *Whole) Room() ([]byte, error) {
	if w.filled == w.announced {
		return nil, nil
	}
	switch {
	case w.one != nil:
		return w.one[w.filled:], nil // never full before the announced length is reached
	case w.small != nil && w.filled < SmallBuffer:
		return w.small[w.filled:], nil
	case w.filled < int64(len(w.pieces))*LargeBufferSize:
		return w.pieces[len(w.pieces)-1][w.filled%LargeBufferSize:], nil
	case w.small == nil && w.pieces == nil:
		if !w.charge(SmallBuffer) {
			return nil, filters.ErrOverloaded
		}
		w.small = TakeSmallBuffer()
		return w.small[:], nil
	case w.announced > LargeBufferSize && w.filled >= w.announced/2:
		if err := w.join(w.announced); err != nil {
			return nil, err
		}
		return w.one[w.filled:], nil
	}
	if !w.charge(LargeBufferSize) {
		return nil, filters.ErrOverloaded
	}
	piece := LargeBuffer()
	w.pieces = append(w.pieces, piece)
	if w.small == nil {
		return piece[:], nil
	}
	copy(piece[:], w.small[:])
	w.dropSmall()
	return piece[w.filled:], nil
}

// Add says that n bytes were read into what Room returned.
func (w *Whole) Add(n int) { w.filled += int64(n) }

// Bytes returns all of it as one slice, good until Release. The error is [filters.ErrOverloaded].
func (w *Whole) Bytes() ([]byte, error) {
	if len(w.pieces) > 1 {
		if err := w.join(w.filled); err != nil {
			return nil, err
		}
	}
	return w.Next(), nil
}

// Next returns the beginning of what has come, up to the end of a piece: all of it as a rule.
func (w *Whole) Next() []byte {
	switch {
	case w.one != nil:
		return w.one[:w.filled:w.filled]
	case w.small != nil:
		return w.small[:w.filled:w.filled]
	case len(w.pieces) > 0:
		n := min(w.filled, LargeBufferSize)
		return w.pieces[0][:n:n]
	}
	return nil
}

// Each calls do with the pieces in their order until it returns false, and reports whether it never
// did.
func (w *Whole) Each(do func(p []byte) bool) bool {
	if len(w.pieces) == 0 {
		return do(w.Next())
	}
	for left, i := w.filled, 0; left > 0; i++ {
		n := min(left, LargeBufferSize)
		if !do(w.pieces[i][:n]) {
			return false
		}
		left -= n
	}
	return true
}

// Release gives everything back. Nothing may refer to the body any more.
func (w *Whole) Release() {
	if w.charged == 0 && w.filled == 0 { // the usual case; without an account nothing is charged
		return
	}
	w.dropSmall()
	w.dropPieces()
	w.one, w.filled = nil, 0
	w.discharge(w.charged)
}

// Abandon is Release where something may refer to the body: its memory is left to the collector.
func (w *Whole) Abandon() {
	w.small, w.pieces, w.one, w.filled = nil, nil, nil, 0
	w.discharge(w.charged)
}

// join copies what there is into one piece of n bytes.
func (w *Whole) join(n int64) error {
	if !w.charge(n) {
		return filters.ErrOverloaded
	}
	one := make([]byte, n)
	at := 0
	w.Each(func(p []byte) bool {
		at += copy(one[at:], p)
		return true
	})
	w.dropPieces()
	w.one = one
	return nil
}

func (w *Whole) dropSmall() {
	if w.small == nil {
		return
	}
	PutSmallBuffer(w.small)
	w.small = nil
	w.discharge(SmallBuffer)
}

func (w *Whole) dropPieces() {
	for i, p := range w.pieces {
		PutLargeBuffer(p)
		w.pieces[i] = nil
	}
	w.discharge(int64(len(w.pieces)) * LargeBufferSize)
	if w.pieces = w.pieces[:0]; cap(w.pieces) > 16 {
		w.pieces = nil
	}
}

func (w *Whole) charge(n int64) bool {
	if !w.account.Acquire(budget.Buffered, n) {
		return false
	}
	w.charged += n
	return true
}

func (w *Whole) discharge(n int64) {
	if n > 0 {
		w.charged -= n
		w.account.Release(budget.Buffered, n)
	}
}

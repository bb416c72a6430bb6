package message

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/iotest"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

func accountOf(buffered int64) (*budget.Budget, *budget.Account) {
	b := budget.New(budget.Limits{InFlight: 1, Buffered: buffered, Upstreams: 1, Portion: buffered})
	return b, b.Account(netip.MustParseAddr("192.0.2.1"))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// TestWholeReadsEveryLength: with and without an announced length, in pieces of every kind.
func TestWholeReadsEveryLength(t *testing.T) {
	t.Parallel()
	b, a := accountOf(64 << 20)
	var w Whole
	for _, n := range []int{0, 1, 511, SmallBuffer - 1, SmallBuffer, SmallBuffer + 1, LargeBufferSize - 1,
		LargeBufferSize, LargeBufferSize + 1, 2*LargeBufferSize - 1, 2 * LargeBufferSize, 3*LargeBufferSize + 5,
		1 << 20} {
		for _, announced := range []int64{int64(n), -1} {
			for kind, r := range map[string]io.Reader{
				"whole": bytes.NewReader(pattern(n)), "halves": iotest.HalfReader(bytes.NewReader(pattern(n))),
				"with the end": iotest.DataErrReader(bytes.NewReader(pattern(n))),
			} {
				w.Begin(a, announced)
				got, err := w.ReadAll(r)
				if err != nil || !bytes.Equal(got, pattern(n)) {
					t.Fatalf("%d bytes, announced %d, %s: %d bytes, %v", n, announced, kind, len(got), err)
				}
				if used := b.Used(budget.Buffered); used < int64(n) || used > 2*int64(n)+LargeBufferSize {
					t.Errorf("%d bytes, announced %d: %d are counted", n, announced, used)
				}
				w.Release()
				if used := b.Used(budget.Buffered); used != 0 {
					t.Fatalf("%d bytes, announced %d: %d are counted behind the release", n, announced, used)
				}
			}
		}
	}
}

// stalled gives some bytes and then fails.
type stalled struct{ left int }

var errStalled = errors.New("stalled")

func (s *stalled) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errStalled
	}
	n := min(len(p), s.left)
	s.left -= n
	return n, nil
}

// TestWholeTrustsNoAnnouncement: what is counted follows what has come, whatever was announced.
func TestWholeTrustsNoAnnouncement(t *testing.T) {
	t.Parallel()
	b, a := accountOf(64 << 20)
	for _, sent := range []int{0, 1, 5000, 100_000, 1 << 20, 3 << 20} {
		var w Whole
		w.Begin(a, 8<<20)
		if _, err := w.ReadAll(&stalled{sent}); !errors.Is(err, errStalled) {
			t.Fatal(err)
		}
		if used := b.Used(budget.Buffered); used > int64(sent)+LargeBufferSize {
			t.Errorf("%d of 8 MiB have come and %d are counted", sent, used)
		}
		w.Release()
	}
}

// TestWholeIsRefused: a body for which there is no room is refused and leaves nothing behind.
func TestWholeIsRefused(t *testing.T) {
	t.Parallel()
	b, a := accountOf(1 << 20)
	for _, announced := range []int64{2 << 20, -1} {
		var w Whole
		w.Begin(a, announced)
		_, err := w.ReadAll(bytes.NewReader(pattern(2 << 20)))
		if !errors.Is(err, filters.ErrOverloaded) {
			t.Errorf("announced %d: %v", announced, err)
		}
		if used := b.Used(budget.Buffered); used > 1<<20 {
			t.Errorf("%d of 1 MiB are used", used)
		}
		w.Release()
		if used := b.Used(budget.Buffered); used != 0 {
			t.Errorf("%d are counted behind the release", used)
		}
	}
	if b.Refused(budget.Buffered) == 0 {
		t.Error("no refusal is counted")
	}
}

func TestWholeInPieces(t *testing.T) {
	t.Parallel()
	var w Whole // without an account nothing is bounded
	w.Begin(nil, -1)
	if _, err := w.ReadAll(io.MultiReader(bytes.NewReader(pattern(200_000)), &stalled{})); !errors.Is(err, errStalled) {
		t.Fatal(err)
	}
	var got []byte
	w.Each(func(p []byte) bool { got = append(got, p...); return true })
	if !bytes.Equal(got, pattern(200_000)) || w.Len() != 200_000 {
		t.Errorf("%d bytes of 200000 come in pieces, or others", len(got))
	}
	if w.Each(func([]byte) bool { return false }) {
		t.Error("a piece that was not taken is not reported")
	}
	w.Abandon()
	if w.Len() != 0 || len(w.Next()) != 0 {
		t.Error("something is left")
	}
}

func TestWholeAllocatesNothing(t *testing.T) {
	_, a := accountOf(1 << 20)
	var w Whole
	body := pattern(3000)
	r := bytes.NewReader(body)
	if n := testing.AllocsPerRun(200, func() {
		r.Reset(body)
		w.Begin(a, 3000)
		if _, err := w.ReadAll(r); err != nil {
			t.Error(err)
		}
		w.Release()
	}); n >= 1 {
		t.Errorf("%v allocations for a body of 3000 bytes", n)
	}
}

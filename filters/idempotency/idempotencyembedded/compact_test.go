package idempotencyembedded

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

// TestCompaction: under load the log stays short, whatever is freed, claimed again and expires, and no record
// is lost or comes back, also over openings.
func TestCompaction(t *testing.T) {
	t.Parallel()
	d, c := seglogtest.New(), newClock()
	opts := Options{disk: d, Now: c.now, SegmentBytes: 8 << 10, SweepEvery: time.Millisecond}
	s := mustOpen(t, "store", opts)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const workers, keys = 8, 20
	models := [workers]map[string]idempotency.State{}
	for w := range models {
		models[w] = map[string]idempotency.State{}
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for w, model := range models {
			r := rand.New(rand.NewPCG(seed, uint64(round*workers+w)))
			wg.Go(func() {
				for n := range 400 {
					compactionStep(t, s, r, model, fmt.Sprintf("%d-%d", w, r.IntN(keys)), uint64(round*1000+n+1))
				}
			})
		}
		wg.Wait()
		eventually(t, "a short log", func() bool {
			st := s.Stats()
			return st.DiskBytes <= 2*st.LiveBytes+4*opts.SegmentBytes
		})
		if s.Stats().CopiedBytes == 0 {
			t.Error("nothing was ever copied")
		}
		mustClose(t, s)
		s = mustOpen(t, "store", opts)
		for _, model := range models {
			for id, want := range model {
				if got := state(t, s, id); got != want {
					t.Fatalf("round %d: %s reads as %v, want %v", round, id, got, want)
				}
			}
		}
	}
	c.advance(3 * time.Hour)
	eventually(t, "all has expired", func() bool {
		st := s.Stats()
		return st.Records == 0 && st.LiveBytes == 0 && st.Segments == 1
	})
	mustClose(t, s)
	if s = mustOpen(t, "store", opts); s.Stats().Records != 0 {
		t.Error("expired records came back")
	}
	mustClose(t, s)
}

func compactionStep(t *testing.T, s *Store, r *rand.Rand, model map[string]idempotency.State, id string, token uint64) {
	ctx := t.Context()
	if model[id] == idempotency.Answered || model[id] == idempotency.Unknown && r.IntN(2) == 0 {
		if got := state(t, s, id); got != model[id] {
			t.Errorf("%s reads as %v, want %v", id, got, model[id])
		}
		if ok, err := s.Resolve(ctx, id, nil, true); err != nil || !ok {
			t.Errorf("resolve %s: %v, %v", id, ok, err)
		}
		model[id] = 0
		return
	}
	c := request(id, token)
	c.Retry = true
	if _, claimed, err := s.Claim(ctx, c); err != nil || !claimed {
		t.Errorf("claim %s: %v, %v", id, claimed, err)
		return
	}
	op, after := idempotency.Finish, idempotency.Answered
	if r.IntN(3) == 0 {
		op, after = idempotency.MarkUnknown, idempotency.Unknown
	}
	if err := s.Change(ctx, id, token, idempotency.Change{Op: op, Response: []byte(id)}); err != nil {
		t.Errorf("change %s: %v", id, err)
	}
	model[id] = after
}

// FuzzIndex compares the index with a map. Few hashes make long runs of slots.
func FuzzIndex(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"))
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		var x index
		model := map[seglog.Ref]uint64{}
		for i, b := range script {
			hash := uint64(b&15)*0x0011_1111_1111_1111 | uint64(b&1)<<63
			if b < 160 {
				at := seglog.Ref{Segment: 1, Offset: uint32(i), Len: 1}
				x.add(hash, at, uint32(i))
				model[at] = hash
				continue
			}
			for at, hash := range model {
				if !x.remove(hash, at) || x.remove(hash, at) {
					t.Fatalf("removing %v", at)
				}
				delete(model, at)
				break
			}
		}
		for shard := range indexShards {
			x.sweep(shard, time.Unix(int64(len(script)/4), 0), func(at seglog.Ref) {
				if _, ok := model[at]; !ok || int(at.Offset) > len(script)/4 {
					t.Fatalf("swept %v", at)
				}
				delete(model, at)
			})
		}
		for at, hash := range model {
			if x.slot(hash, at) == nil || int(at.Offset) <= len(script)/4 {
				t.Fatalf("%v is lost, or was not swept", at)
			}
		}
		if x.n != len(model) {
			t.Fatalf("%d slots, want %d", x.n, len(model))
		}
	})
}

var recordsFlag = flag.Int("store.records", 100_000, "how many records BenchmarkOpen works with")

// BenchmarkOpen opens a folder of many records, and reports what one costs of memory and disk.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := mustOpen(b, dir, Options{})
	fill(b, s, *recordsFlag)
	mustClose(b, s)
	b.ReportAllocs()
	for b.Loop() {
		mustClose(b, mustOpen(b, dir, Options{}))
	}
	before := heap()
	s = mustOpen(b, dir, Options{})
	b.ReportMetric(float64(heap()-before)/float64(*recordsFlag), "heap-B/record")
	b.ReportMetric(float64(s.Stats().LiveBytes)/float64(*recordsFlag), "disk-B/record")
	mustClose(b, s)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill finishes n records, many at a time.
func fill(t testing.TB, s *Store, n int) {
	var wg sync.WaitGroup
	const workers = 500
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				id := fmt.Sprintf("%032s", strconv.Itoa(i))
				claim(t, s, request(id, 1))
				finish := idempotency.Change{Op: idempotency.Finish, Response: make([]byte, 200)}
				if err := s.Change(t.Context(), id, 1, finish); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

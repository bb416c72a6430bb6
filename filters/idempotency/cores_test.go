package idempotency

import (
	"testing"
	"time"
	"unsafe"

	"github.com/sluice-gateway/sluice/bench/kit/cores"
	"github.com/sluice-gateway/sluice/filters"
)

// TestPartsLieApart: processors that work in two parts of a table share no line.
func TestPartsLieApart(t *testing.T) {
	t.Parallel()
	calls := NewCalls()
	defer calls.Close()
	for i := range calls.shards {
		s := &calls.shards[i]
		first, behind := uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&s.only))+unsafe.Sizeof(s.only)
		if first/cores.Line != (behind-1)/cores.Line || unsafe.Sizeof(*s) < cores.Line {
			t.Fatalf("part %d of the calls is not in a line of its own: from %x to %x", i, first, behind)
		}
	}
	cores.Apart(t, "known keys", unsafe.Sizeof(keyPart{}), unsafe.Sizeof(keyPart{}.mu))
	cores.Apart(t, "renewals", unsafe.Sizeof(renewalList{}), unsafe.Offsetof(renewalList{}.set)+1)
}

// coresName is the ID of a worker's key.
func coresName(id *[IDLength]byte, worker, i int) {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	for at := range id {
		id[at] = '0'
	}
	id[0] = digits[worker%len(digits)]
	for at := range 6 { // the end of a digest changes with every key
		id[IDLength-1-at] = digits[i%len(digits)]
		i /= len(digits)
	}
}

func BenchmarkCores(b *testing.B) {
	b.Run("calls", func(b *testing.B) {
		calls := NewCalls()
		defer calls.Close()
		cores.Run(b, func(worker int) func() {
			i := 0
			return func() {
				i++
				var key callKey
				coresName((*[IDLength]byte)(&key.id), worker, i)
				_, lead := calls.join(&key)
				calls.executing(&lead.call)
				calls.finish(&lead.call, &result{})
				lead.leads = false
				lead.release()
			}
		})
	})
	b.Run("renewals", func(b *testing.B) {
		r := &renewals{every: time.Hour}
		now := time.Now()
		cores.Run(b, func(worker int) func() {
			const underWay = 32 // claims of a worker
			var ring [underWay]*Handle
			i := 0
			return func() {
				i++
				h := ring[i%underWay]
				if h == nil { // else used again, as those of the pool are
					h = new(Handle)
					ring[i%underWay] = h
				}
				h.stop()
				h.renewal = renewal{}
				r.add(h, now)
			}
		})
	})
	b.Run("owners", func(b *testing.B) {
		o := NewCalls()
		defer o.Close()
		cores.Run(b, func(int) func() {
			return func() { o.owners.of("create-order", "ip:192.0.2.7") }
		})
	})
	b.Run("known keys", func(b *testing.B) {
		m := new(keyMemory)
		cores.Run(b, func(worker int) func() {
			i := 0
			return func() {
				i++
				var id [IDLength]byte
				coresName(&id, worker, i)
				m.has(filters.Alias(id[:]))
				m.add(filters.Alias(id[:]))
			}
		})
	})
}

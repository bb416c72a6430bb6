package overload

import "math/bits"

// A level is a class with a rank within it; the lowest is served first.
type level uint8

// The ranks within a class.
const (
	rankReserved = iota
	rankFirst
	rankHeavy   // of a principal that had more than its share
	rankDemoted // of one that was shed a moment ago
	rankBoth

	ranks  = 5
	levels = classes * ranks
)

func levelOf(r *Request, heavy bool) level {
	rank := rankFirst
	switch {
	case r.Reserved:
		rank = rankReserved
	case r.Demoted && heavy:
		rank = rankBoth
	case r.Demoted:
		rank = rankDemoted
	case heavy:
		rank = rankHeavy
	}
	return level(int(r.Class)*ranks + rank) //nolint:gosec // at most 20
}

func (v level) class() Class   { return Class(v / ranks) }
func (v level) reserved() bool { return v%ranks == rankReserved }

// queue is the waiters: a list for each level, in the order of arrival, and a heap of when their wait
// is over. Its zero value is empty.
type queue struct {
	size  int
	some  uint32 // which levels have waiters
	lists [levels]list
	heap  []*Waiter // by until
}

type list struct {
	head, tail *Waiter
	size       int
}

func (q *queue) push(w *Waiter) {
	l := &q.lists[w.level]
	w.prev, w.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
	l.size++
	q.size++
	q.some |= 1 << w.level
	w.queued = true
	w.index = len(q.heap)
	q.heap = append(q.heap, w)
	q.up(w.index)
}

func (q *queue) remove(w *Waiter) {
	l := &q.lists[w.level]
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	l.size--
	q.size--
	if l.size == 0 {
		q.some &^= 1 << w.level
	}
	last := len(q.heap) - 1
	moved := q.heap[last]
	q.heap[last] = nil
	q.heap = q.heap[:last]
	if moved != w {
		q.heap[w.index], moved.index = moved, w.index
		q.up(moved.index)
		q.down(moved.index)
	}
}

// first is the level that is served next. The queue must not be empty.
func (q *queue) first() *list { return &q.lists[bits.TrailingZeros32(q.some)] }

// last is the worst level whose waiters may be shed, nil where there is none.
func (q *queue) last() *list {
	for some := q.some; some != 0; {
		v := level(31 - bits.LeadingZeros32(some)) //nolint:gosec // at most 31
		if !v.reserved() {
			return &q.lists[v]
		}
		some &^= 1 << v
	}
	return nil
}

// ahead is how many waiters are served before a new one of that level.
func (q *queue) ahead(v level) int {
	n := 0
	for some := q.some & (1<<(v+1) - 1); some != 0; some &= some - 1 {
		n += q.lists[bits.TrailingZeros32(some)].size
	}
	return n
}

// none tells whether nobody waits at that level or a worse one.
func (q *queue) none(v level) bool { return q.some>>v == 0 }

func (q *queue) byClass() (n [classes]int) {
	for v := range q.lists {
		n[v/ranks] += q.lists[v].size
	}
	return n
}

// soonest is whose wait is over first. The queue must not be empty.
func (q *queue) soonest() *Waiter { return q.heap[0] }

func (q *queue) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].index, q.heap[j].index = i, j
}

func (q *queue) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if q.heap[parent].until <= q.heap[i].until {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q.heap) {
			return
		}
		if child+1 < len(q.heap) && q.heap[child+1].until < q.heap[child].until {
			child++
		}
		if q.heap[i].until <= q.heap[child].until {
			return
		}
		q.swap(i, child)
		i = child
	}
}

package waiting

// Waiter waits for a record, for stores that read it in a way of their own. It joins, reads, and waits to be
// woken, in this order, so that no step comes in between; it leaves in the end.
type Waiter struct {
	list  *List
	id    string
	entry *entry
}

// Join makes a waiter. The ID stays the waiter's until it leaves.
func (l *List) Join(id string) Waiter { return Waiter{l, id, l.join(id)} }

// Woken is closed when the record has changed. A waiter is woken once, and joins again to wait for more.
func (w Waiter) Woken() <-chan struct{} { return w.entry.woken }

// Leave ends the waiting.
func (w Waiter) Leave() { w.list.leave(w.id, w.entry) }

// WakeAll wakes all waiters of all records.
func (l *List) WakeAll() {
	l.mu.Lock()
	entries := l.entries
	l.entries = nil
	l.waited.Add(-int64(len(entries)))
	l.mu.Unlock()
	for _, e := range entries {
		close(e.woken)
	}
}

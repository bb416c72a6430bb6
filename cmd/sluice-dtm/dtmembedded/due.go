package dtmembedded

import "container/heap"

// dues are the transactions that have not ended, the one that is due first in front.
type dues []*cell

// Len implements [heap.Interface], as do the others.
func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due < d[j].due }

func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].position, d[j].position = i, j
}

// Push is for package heap.
func (d *dues) Push(v any) {
	c := v.(*cell)
	c.position = len(*d)
	*d = append(*d, c)
}

// Pop is for package heap.
func (d *dues) Pop() any {
	old := *d
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	c.position = -1
	return c
}

func (d *dues) add(c *cell) {
	if c.position < 0 {
		heap.Push(d, c)
	}
}

func (d *dues) remove(c *cell) {
	if c.position >= 0 {
		heap.Remove(d, c.position)
	}
}

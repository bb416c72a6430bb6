package redisx

import "testing"

// TestCompare: what is a failover, look after look.
func TestCompare(t *testing.T) {
	failovers := new(counter)
	w := NewWatch(nil, WatchOptions{Failovers: failovers})
	for _, look := range []struct {
		what  string
		found map[string]string
		want  int64 // so far
	}{
		{"the first look", map[string]string{"a": "1", "b": "2", "c": ""}, 0},
		{"one that did not answer does", map[string]string{"a": "1", "b": "2", "c": "3"}, 0},
		{"none answers but one", map[string]string{"a": "", "b": "2", "c": ""}, 0},
		{"all are what they were", map[string]string{"a": "1", "b": "2", "c": "3"}, 0},
		{"one more", map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}, 0},
		{"one restarted", map[string]string{"a": "1", "b": "9", "c": "3", "d": "4"}, 1},
		{"another one hangs", map[string]string{"a": "1", "b": "9", "c": "", "d": "4"}, 1},
		{"and its replica took its place", map[string]string{"a": "1", "b": "9", "e": "5", "d": "4"}, 2},
		{"it is a master again, and the replica goes", map[string]string{"a": "1", "b": "9", "c": "6", "d": "4"}, 3},
	} {
		if w.report(w.compare(look.found)); failovers.n.Load() != look.want {
			t.Errorf("%s: %d failovers, want %d", look.what, failovers.n.Load(), look.want)
		}
	}
}

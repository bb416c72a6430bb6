package child

import (
	"bytes"
	"sync"
)

// Output keeps what a child writes, both streams or one. The zero value keeps all of it. It is safe
// for concurrent use, also while the child writes.
type Output struct {
	BytesMax int // of the beginning, beyond which nothing is kept; 0: no limit. Set before the first Write

	mu   sync.Mutex
	text bytes.Buffer
}

// Write never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := b
	if o.BytesMax > 0 {
		kept = b[:min(len(b), o.BytesMax-o.text.Len())]
	}
	o.text.Write(kept)
	return len(b), nil
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

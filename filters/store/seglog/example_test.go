package seglog_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// counter is an owner of one key: how often something happened. Each entry has the whole count.
type counter struct {
	log     *seglog.Log
	mu      sync.Mutex // shared with the log
	n       int        // with what is being written
	durable int        // without it
	at      seglog.Ref // of the newest durable entry
}

// count is one entry.
type count int

func (c count) AppendBody(dst []byte) []byte { return fmt.Append(dst, int(c)) }

// Add counts one, durably.
func (c *counter) Add(ctx context.Context) error {
	b, err := c.append()
	if err != nil {
		return err
	}
	return b.Wait(ctx) // all who call at the same time share one sync
}

func (c *counter) append() (*seglog.Batch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.log.AppendLocked(seglog.Header{Kind: 1, Key: "n", Expires: time.Unix(0, 0)}, count(c.n+1))
	if err == nil {
		c.n++
	}
	return b, err
}

// Committed takes over the new places, and discards those that they replace.
func (c *counter) Committed(list []seglog.Write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range list {
		n, own := w.Item.(count)
		if !own && w.From != c.at { // a copy of what was replaced meanwhile
			c.log.Discard(w.At)
			continue
		}
		c.log.Discard(c.at)
		if c.at = w.At; own {
			c.durable = int(n)
		}
	}
}

// Failed forgets what was being written.
func (c *counter) Failed([]seglog.Write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = c.durable
}

// Relocate copies the newest entry, but not behind a newer one that is being written.
func (c *counter) Relocate(e seglog.Entry, at seglog.Ref) (*seglog.Batch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at != c.at || c.n != c.durable {
		return nil, nil
	}
	return c.log.CopyLocked(e, at)
}

func (c *counter) Rescue(uint32) (*seglog.Batch, error) { return nil, nil }

func openCounter(dir string) (*counter, error) {
	c := new(counter)
	var err error
	if c.log, err = seglog.Open(dir, &c.mu, seglog.Options{}); err != nil {
		return nil, err
	}
	_, err = c.log.Replay(func(e seglog.Entry, at seglog.Ref) error {
		c.log.Discard(c.at)
		c.log.Keep(at)
		c.at = at
		_, err := fmt.Sscan(string(e.Body), &c.durable)
		c.n = c.durable
		return err
	})
	if err == nil {
		err = c.log.Start(c)
	}
	return c, err
}

func Example() {
	dir, err := os.MkdirTemp("", "seglog")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for range 2 {
		c, err := openCounter(dir)
		if err != nil {
			panic(err)
		}
		fmt.Println("found", c.n)
		for range 3 {
			if err := c.Add(context.Background()); err != nil {
				panic(err)
			}
		}
		if err := c.log.Close(); err != nil {
			panic(err)
		}
	}
	// Output:
	// found 0
	// found 3
}

package seglog_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
	"github.com/sluice-gateway/sluice/filters/store/seglog/seglogtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const (
	kindValue byte = iota + 1
	kindRemoved
)

// refused is the value of a key whose newest entry is damaged.
const refused = "\x00refused"

// table is the simplest owner: keys and values, with all keys in memory. One step of a key is made at a
// time.
type table struct {
	log  *seglog.Log
	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	key     string
	value   string     // being written
	at      seglog.Ref // nowhere before the first one is durable
	pending *seglog.Batch
}

func (r *row) AppendBody(dst []byte) []byte { return append(dst, r.value...) }

// openTable opens a table, or returns the error of the log.
func openTable(dir string, opts seglog.Options) (*table, error) {
	if opts.Logger == nil {
		opts.Logger = quiet
	}
	tb := &table{rows: map[string]*row{}}
	log, err := seglog.Open(dir, &tb.mu, opts)
	if err != nil {
		return nil, err
	}
	tb.log = log
	damaged, err := log.Replay(func(e seglog.Entry, at seglog.Ref) error {
		key := string(e.Key)
		if r := tb.rows[key]; r != nil {
			log.Discard(r.at)
			delete(tb.rows, key)
		}
		if e.Kind == kindValue {
			log.Keep(at)
			tb.rows[key] = &row{key: key, at: at}
		}
		return nil
	})
	for _, d := range damaged {
		if r := tb.rows[d.Key]; r != nil {
			log.Discard(r.at)
		}
		log.Keep(d.At)
		tb.rows[d.Key] = &row{key: d.Key, at: d.At}
	}
	if err == nil {
		err = log.Start(tb)
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return tb, nil
}

func (tb *table) Committed(list []seglog.Write) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, w := range list {
		r, _ := w.Item.(*row)
		if r == nil {
			if r = tb.rows[string(w.Key)]; r == nil || r.at != w.From {
				tb.log.Discard(w.At)
				continue
			}
			tb.log.Discard(w.From)
			r.at = w.At
			continue
		}
		tb.log.Discard(r.at)
		r.pending = nil
		if r.at = w.At; r.value == "" {
			delete(tb.rows, r.key)
		}
	}
}

func (tb *table) Failed(list []seglog.Write) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, w := range list {
		if r, _ := w.Item.(*row); r != nil {
			r.pending = nil
			if r.at.Len == 0 {
				delete(tb.rows, r.key)
			}
		}
	}
}

func (tb *table) Relocate(e seglog.Entry, at seglog.Ref) (*seglog.Batch, error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if r := tb.rows[string(e.Key)]; r == nil || r.at != at || r.pending != nil {
		return nil, nil
	}
	return tb.log.CopyLocked(e, at)
}

func (tb *table) Rescue(uint32) (*seglog.Batch, error) { return nil, nil }

// put sets a value; "" removes the key.
func (tb *table) put(ctx context.Context, key, value string) error {
	for {
		b, own, err := tb.tryPut(key, value)
		if err != nil || b == nil {
			return err
		}
		if err := b.Wait(ctx); own || err != nil && !errors.Is(err, seglog.ErrFailed) {
			return err
		}
	}
}

// tryPut returns the batch that has the step, or one to wait for before.
func (tb *table) tryPut(key, value string) (b *seglog.Batch, own bool, err error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	c := tb.log.ConditionLocked()
	if err := errors.Join(c.Stalled, c.Down); err != nil {
		return nil, false, err
	}
	if c.Full != nil {
		return c.Full, false, nil
	}
	r := tb.rows[key]
	if r != nil && r.pending != nil {
		return r.pending, false, nil
	}
	h := seglog.Header{Kind: kindValue, Key: key, Expires: time.Unix(1_900_000_000, 0)}
	if value == "" {
		h.Kind, h.Tombstone = kindRemoved, true
		if r == nil {
			return nil, true, nil
		}
	}
	if r == nil {
		r = &row{key: key}
	}
	r.value = value
	if b, err = tb.log.AppendLocked(h, r); err == nil {
		r.pending = b
		tb.rows[key] = r
	}
	return b, true, err
}

// get reads a value, "" without one, and refused of one whose entry is damaged.
func (tb *table) get(key string) (string, error) {
	for {
		tb.mu.Lock()
		at := seglog.Ref{}
		if r := tb.rows[key]; r != nil {
			at = r.at
		}
		tb.mu.Unlock()
		if at.Len == 0 {
			return "", nil
		}
		e, err := tb.log.Read(at)
		switch {
		case errors.Is(err, seglog.ErrGone):
			continue
		case errors.Is(err, seglog.ErrCorrupt):
			return refused, nil
		case err != nil:
			return "", err
		}
		return string(e.Body), nil
	}
}

func mustOpen(t testing.TB, dir string, opts seglog.Options) *table {
	t.Helper()
	tb, err := openTable(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

func mustClose(t testing.TB, tb *table) {
	t.Helper()
	if err := tb.log.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustPut(t testing.TB, tb *table, key, value string) {
	t.Helper()
	if err := tb.put(within(t, soon), key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func mustHave(t testing.TB, tb *table, key, want string) {
	t.Helper()
	if got, err := tb.get(key); err != nil || got != want {
		t.Errorf("%s is %q, %v; want %q", key, got, err, want)
	}
}

// soon bounds what must happen promptly; a machine can be busy.
const soon = 20 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for what happens in the background.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// onDisk is a log with small segments that is compacted and resumes at once.
func onDisk(d *seglogtest.Disk) seglog.Options {
	return seglog.Options{Disk: d, SegmentBytes: 1 << 10, CompactEvery: time.Millisecond, RetryAfter: time.Millisecond}
}

// firstSegment is the name of the first file of a log in the folder "log".
const firstSegment = "log/00000001.log"

// value is a value that is longer than a header.
func value(s string) string { return strings.Repeat(s+".", 20) }

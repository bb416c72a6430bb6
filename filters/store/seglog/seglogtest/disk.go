// Package seglogtest has a disk in memory for tests of logs and of the stores on them. It knows what was
// synced, can fail or delay any operation, fill up, and lose what a power cut would lose.
package seglogtest

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/sluice-gateway/sluice/filters/store/seglog"
)

// Operations are the names of the operations that a hook is asked about, but "close".
var Operations = []string{
	"mkdir", "lock", "list", "create", "open", "write", "sync", "sync folder", "truncate", "remove", "read",
}

// Disk is a [seglog.Disk] in memory; make it with [New]. It is safe for concurrent use.
type Disk struct {
	mu    sync.Mutex
	files map[string]*file
	hook  func(op string) error
	room  int // bytes; 0: any number
}

type file struct {
	disk   *Disk
	data   []byte
	synced []byte
	since  []func([]byte) []byte // what was done to it since
	named  bool                  // its name was synced
}

// New returns an empty disk.
func New() *Disk { return &Disk{files: map[string]*file{}} }

// SetHook has a function called before each operation, without a lock: the operation fails with its
// error. Nil: none.
func (d *Disk) SetHook(hook func(op string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = hook
}

// SetRoom sets how many bytes the disk takes; 0: any number.
func (d *Disk) SetRoom(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = bytes
}

// SetFree leaves room for so many bytes more.
func (d *Disk) SetFree(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = d.usedLocked() + bytes
}

// Write makes a file of that content, which is not synced.
func (d *Disk) Write(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = &file{disk: d, data: data}
}

// Read returns the content of a file, nil without one.
func (d *Disk) Read(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return slices.Clone(f.data)
	}
	return nil
}

// Damage has a function change the content of every file.
func (d *Disk) Damage(change func(data []byte)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		change(f.data)
	}
}

func (d *Disk) ask(op string) error {
	d.mu.Lock()
	hook := d.hook
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

func (d *Disk) usedLocked() int {
	n := 0
	for _, f := range d.files {
		n += len(f.data)
	}
	return n
}

// AfterPowerCut returns the disk as it may be after one: of what was not synced, any part is there.
func (d *Disk) AfterPowerCut(r *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := New()
	for name, f := range d.files {
		if !f.named && r.IntN(2) == 0 {
			continue
		}
		data := slices.Clone(f.synced)
		for _, do := range f.since {
			if r.IntN(2) == 0 {
				data = do(data)
			}
		}
		if len(f.since) > 0 && len(data) > len(f.synced) && r.IntN(2) == 0 { // torn
			data = data[:len(f.synced)+r.IntN(len(data)-len(f.synced))]
		}
		after.files[name] = &file{disk: after, data: data, synced: slices.Clone(data), named: true}
	}
	return after
}

// MakeFolder implements [seglog.Disk].
func (d *Disk) MakeFolder(string) error { return d.ask("mkdir") }

// Lock implements [seglog.Disk].
func (d *Disk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), d.ask("lock") }

// List implements [seglog.Disk].
func (d *Disk) List(string) ([]string, error) {
	if err := d.ask("list"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.files {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

// Create implements [seglog.Disk].
func (d *Disk) Create(name string) (seglog.File, error) {
	if err := d.ask("create"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &file{disk: d}
	d.files[name] = f
	return f, nil
}

// Open implements [seglog.Disk].
func (d *Disk) Open(name string) (seglog.File, error) {
	if err := d.ask("open"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

// Remove implements [seglog.Disk].
func (d *Disk) Remove(name string) error {
	if err := d.ask("remove"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

// SyncFolder implements [seglog.Disk].
func (d *Disk) SyncFolder(string) error {
	if err := d.ask("sync folder"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		f.named = true
	}
	return nil
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if err := f.disk.ask("read"); err != nil {
		return 0, err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes half of it when it fails.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	err := f.disk.ask("write")
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err == nil && f.disk.room > 0 && f.disk.usedLocked()+len(b) > f.disk.room {
		err = syscall.ENOSPC
	}
	if err != nil {
		b = b[:len(b)/2]
	}
	b = slices.Clone(b)
	f.do(func(data []byte) []byte {
		if need := int(off) + len(b); len(data) < need {
			data = append(data, make([]byte, need-len(data))...)
		}
		copy(data[off:], b)
		return data
	})
	return len(b), err
}

func (f *file) do(what func([]byte) []byte) {
	f.data = what(f.data)
	f.since = append(f.since, what)
}

func (f *file) Truncate(size int64) error {
	if err := f.disk.ask("truncate"); err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.do(func(data []byte) []byte { return slices.Clone(data[:min(int(size), len(data))]) })
	return nil
}

func (f *file) Sync() error {
	if err := f.disk.ask("sync"); err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.synced, f.since = slices.Clone(f.data), nil
	return nil
}

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *file) Close() error { return f.disk.ask("close") }

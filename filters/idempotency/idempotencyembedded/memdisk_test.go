package idempotencyembedded

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// memDisk is a disk in memory that knows what was synced. Each operation asks hook first.
type memDisk struct {
	mu    sync.Mutex
	files map[string]*memFile
	hook  func(op string) error // called without the mutex; nil: none
	room  int                   // bytes; 0: any number
}

type memFile struct {
	disk   *memDisk
	data   []byte
	synced []byte
	since  []func([]byte) []byte // what was done to it since
	named  bool                  // its name was synced
}

func newMemDisk() *memDisk { return &memDisk{files: map[string]*memFile{}} }

func (d *memDisk) setHook(hook func(string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = hook
}

func (d *memDisk) setRoom(bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = bytes
}

func (d *memDisk) ask(op string) error {
	d.mu.Lock()
	hook := d.hook
	d.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op)
}

// used is how many bytes there are. The mutex is held.
func (d *memDisk) used() int {
	n := 0
	for _, f := range d.files {
		n += len(f.data)
	}
	return n
}

// afterPowerCut returns the disk as it may be after one: of what was not synced, any part is there.
func (d *memDisk) afterPowerCut(r *rand.Rand) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newMemDisk()
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
		after.files[name] = &memFile{disk: after, data: data, synced: slices.Clone(data), named: true}
	}
	return after
}

func (d *memDisk) MakeFolder(string) error { return d.ask("mkdir") }

func (d *memDisk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), d.ask("lock") }

func (d *memDisk) List(string) ([]string, error) {
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

func (d *memDisk) Create(name string) (file, error) {
	if err := d.ask("create"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &memFile{disk: d}
	d.files[name] = f
	return f, nil
}

func (d *memDisk) Open(name string) (file, error) {
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

func (d *memDisk) Remove(name string) error {
	if err := d.ask("remove"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	return nil
}

func (d *memDisk) SyncFolder(string) error {
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

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
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
func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	err := f.disk.ask("write")
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err == nil && f.disk.room > 0 && f.disk.used()+len(b) > f.disk.room {
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

func (f *memFile) do(what func([]byte) []byte) {
	f.data = what(f.data)
	f.since = append(f.since, what)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.disk.ask("truncate"); err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.do(func(data []byte) []byte { return slices.Clone(data[:min(int(size), len(data))]) })
	return nil
}

func (f *memFile) Sync() error {
	if err := f.disk.ask("sync"); err != nil {
		return err
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.synced, f.since = slices.Clone(f.data), nil
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *memFile) Close() error { return f.disk.ask("close") }

package embeddedstore

import (
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the disk and keeps the first failure.
//
// Pebble v2 takes a failed write for the end of the process: it calls Logger.Fatalf, panics, or dies on a mutex that its own panic left
// unlocked (rotateWAL). So once the store is open a failed write never gets that far: it is kept here, everybody who waits is told, and
// the goroutine that met it is parked for good, with whatever locks it holds. Nothing may enter Pebble after that.
type guard struct {
	vfs.FS
	dir    string
	log    *slog.Logger
	armed  atomic.Bool // false while opening and closing, when Pebble returns errors as it should
	err    atomic.Pointer[error]
	failed chan struct{} // closed with the first failure
}

func newGuard(under vfs.FS, dir string, log *slog.Logger) *guard {
	return &guard{FS: under, dir: dir, log: log, failed: make(chan struct{})}
}

// fail keeps the first failure and tells everybody.
func (g *guard) fail(cause error) {
	err := fmt.Errorf("%w: folder %s: %w", ErrFailed, g.dir, cause)
	if g.err.CompareAndSwap(nil, &err) {
		g.log.Error("the embedded store stopped; free or repair the disk and start the gateway again", "folder", g.dir, "error", cause)
		close(g.failed)
	}
}

// failure returns why the store stopped, or nil.
func (g *guard) failure() error {
	if p := g.err.Load(); p != nil {
		return *p
	}
	return nil
}

// wrote passes on the outcome of a write; a failure of an open store does not return.
func (g *guard) wrote(op, name string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	g.fail(fmt.Errorf("%s %s: %w", op, name, err))
	park()
	return err
}

func park() { select {} }

// Infof implements [pebble.Logger]; the engine's chatter is dropped.
func (g *guard) Infof(string, ...any) {}

// Errorf implements [pebble.Logger].
func (g *guard) Errorf(format string, args ...any) {
	g.log.Warn("embedded store: "+fmt.Sprintf(format, args...), "folder", g.dir)
}

// Fatalf implements [pebble.Logger]. Pebble relies on that it does not return; only while opening does it return the same error too.
func (g *guard) Fatalf(format string, args ...any) {
	g.fail(fmt.Errorf(format, args...))
	if g.armed.Load() {
		park()
	}
}

// listener stops the store where Pebble would try a failed background job again for ever, and at a wrong checksum.
func (g *guard) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { g.fail(fmt.Errorf("background work: %w", err)) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			g.fail(fmt.Errorf("file %s is corrupt; %s: %w", info.Path, advice, info.Details))
		},
	}
}

// What follows is the part of vfs.FS and vfs.File that writes.

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	return g.file(f, name, g.wrote("create", name, err))
}

func (g *guard) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, c)
	if oserror.IsNotExist(err) {
		return nil, err
	}
	return g.file(f, newname, g.wrote("reuse", newname, err))
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.FS.OpenReadWrite(name, c, opts...)
	return g.file(f, name, err)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file(f, name, err)
}

func (g *guard) Link(oldname, newname string) error {
	err := g.FS.Link(oldname, newname)
	if oserror.IsNotExist(err) || oserror.IsExist(err) {
		return err
	}
	return g.wrote("link", newname, err)
}

func (g *guard) Rename(oldname, newname string) error {
	return g.wrote("rename", newname, g.FS.Rename(oldname, newname))
}

func (g *guard) MkdirAll(dir string, perm fs.FileMode) error {
	return g.wrote("mkdir", dir, g.FS.MkdirAll(dir, perm))
}

func (g *guard) Unwrap() vfs.FS { return g.FS }

func (g *guard) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, g: g, name: name}, nil
}

type guardedFile struct {
	vfs.File
	g    *guard
	name string
}

func (f *guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.g.wrote("write", f.name, err)
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.g.wrote("write", f.name, err)
}

func (f *guardedFile) Sync() error { return f.g.wrote("sync", f.name, f.File.Sync()) }

func (f *guardedFile) SyncData() error { return f.g.wrote("sync", f.name, f.File.SyncData()) }

func (f *guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.g.wrote("sync", f.name, err)
}

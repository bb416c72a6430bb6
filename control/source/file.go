package source

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// watchPeriod is how often the files are looked at. Reading a few small files beats change
// notifications, which miss what network file systems and swapped symbolic links (Kubernetes) do.
const watchPeriod = time.Second

// File is a configuration in a file, or in all files of a folder. It is given again when a file
// that it is made of has changed, key sets and certificates included.
type File struct {
	Path string
	// Reload has the files read again at once, changed or not; nil: nobody asks.
	Reload <-chan struct{}

	applied *config.Config // what the sink has in force
}

var (
	_ Source   = (*File)(nil)
	_ Composer = (*File)(nil)
)

// First implements [Source].
func (f *File) First(context.Context) (*config.Config, error) {
	cfg, err := config.Load(f.Path)
	f.applied = cfg
	return cfg, err
}

// Watch implements [Source]. It returns nil.
func (f *File) Watch(ctx context.Context, sink Sink) error {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	read := f.content()
	// What changed between First and this look would never look changed.
	if cfg, err := config.Load(f.Path); err != nil || cfg.Hash() != f.applied.Hash() {
		f.give(sink)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.Reload:
			read = f.content() // before the files are read: a change meanwhile is noticed
			f.give(sink)
		case <-tick.C:
			if now := f.content(); now != read {
				read = now
				f.give(sink)
			}
		}
	}
}

// Compose implements [Composer].
func (f *File) Compose(list []config.File) (*config.Config, error) {
	_, dir, err := config.Documents(f.Path)
	if err != nil {
		return nil, err
	}
	return config.ParseFiles(list, dir)
}

func (f *File) give(sink Sink) {
	cfg, err := config.Load(f.Path)
	if err != nil {
		sink.Refuse(err)
		return
	}
	if sink.Apply(cfg) == nil { // the sink reports what it refuses
		f.applied = cfg
	}
}

// content digests the files of the configuration in force, and the names in its folder, so that a
// new file is noticed too.
func (f *File) content() [sha256.Size]byte {
	h := sha256.New()
	for _, path := range f.applied.Files() {
		h.Write([]byte(path + "\x00"))
		if entries, err := os.ReadDir(path); err == nil {
			for _, e := range entries {
				h.Write([]byte(e.Name() + "\x00"))
				if e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0 {
					writeDigest(h, filepath.Join(path, e.Name()))
				}
			}
			continue
		}
		writeDigest(h, path)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// bytesMax is how much of a file is looked at: the configuration takes none that is longer, and a
// folder can hold what is none of it.
const bytesMax = 1<<20 + 1

// writeDigest writes a file's digest to h.
func writeDigest(h io.Writer, path string) {
	sum := sha256.New()
	file, err := os.Open(path)
	if err == nil {
		_, err = io.Copy(sum, io.LimitReader(file, bytesMax))
		_ = file.Close() // it was read only
	}
	if err != nil {
		_, _ = h.Write([]byte("unreadable\x00")) // a hash takes everything
		return
	}
	_, _ = h.Write(sum.Sum(nil))
}

package source

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// watchPeriod is how often the files are looked at. Reading a few small files beats change
// notifications, which miss what network file systems and swapped symbolic links (Kubernetes) do.
const watchPeriod = time.Second

// poll calls first, once it knows the files, and then give whenever they have changed or somebody
// asks for it, until ctx ends.
func poll(
	ctx context.Context, reload <-chan struct{}, list func() fileList, first func(), give func(asked bool),
) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	read := list().content()
	first()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			read = list().content() // before the files are read: a change meanwhile is noticed
			give(true)
		case <-tick.C:
			if now := list().content(); now != read {
				read = now
				give(false)
			}
		}
	}
}

// fileList is the files of a configuration, and the folder that it came from.
type fileList []string

// content digests the files, and the names in the folder, so that a new file is noticed too.
func (f fileList) content() [sha256.Size]byte {
	h := sha256.New()
	for _, path := range f {
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

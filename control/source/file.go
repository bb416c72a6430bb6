package source

import (
	"context"

	"github.com/sluice-gateway/sluice/control/config"
)

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
	// What changed between First and this look would never look changed.
	check := func() {
		if cfg, err := config.Load(f.Path); err != nil || cfg.Hash() != f.applied.Hash() {
			f.give(sink)
		}
	}
	poll(ctx, f.Reload, func() fileList { return f.applied.Files() }, check, func(bool) { f.give(sink) })
	return nil
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

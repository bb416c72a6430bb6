package source

import (
	"context"

	"github.com/sluice-gateway/sluice/control/config"
)

// Documents is a configuration in a file or folder that is sent on to others: it is read as it is
// written ([config.LoadDocument]), and given again when a file has changed.
type Documents struct {
	Path string
	// Reload has the files read again at once, changed or not; nil: nobody asks.
	Reload <-chan struct{}

	read fileList
}

// DocumentSink takes documents, as [Sink] takes configurations.
type DocumentSink interface {
	// Apply puts a document in force. asked says that somebody wants it tried again, even if nothing
	// has changed.
	Apply(d *config.Document, asked bool) error
	Refuse(err error)
}

// First returns the document to start with. The error says why there is none.
func (f *Documents) First(context.Context) (*config.Document, error) {
	return f.load()
}

func (f *Documents) load() (*config.Document, error) {
	d, err := config.LoadDocument(f.Path)
	if err == nil {
		f.read = fileList(d.Config().Files())
	}
	return d, err
}

// Watch gives every later document to the sink, one at a time, until ctx ends. It begins with what
// has changed since First. It returns nil.
func (f *Documents) Watch(ctx context.Context, sink DocumentSink) error {
	give := func(asked bool) {
		d, err := f.load()
		if err != nil {
			sink.Refuse(err)
			return
		}
		_ = sink.Apply(d, asked) // the sink reports what it refuses
	}
	poll(ctx, f.Reload, func() fileList { return f.read }, func() { give(false) }, give)
	return nil
}

package source

import (
	"context"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// File is a configuration in a file, or in all files of a folder. It is given again when a file
// that it is made of has changed, key sets and certificates included. The endpoints of services that
// come from elsewhere are found by package discovery, from First on until Watch ends; a configuration
// waits for them a moment before it is put in force.
type File struct {
	Path string
	// Reload has the files read again at once, changed or not; nil: nobody asks.
	Reload <-chan struct{}
	Logger *slog.Logger // is told of endpoints that are found; nil: nobody is

	applied *config.Config     // what the sink has in force
	found   *discovery.Watcher // nil before First
}

var (
	_ Source           = (*File)(nil)
	_ Discoverer       = (*File)(nil)
	_ Finder           = (*File)(nil)
	_ Composer         = (*File)(nil)
	_ metric.Collector = (*File)(nil)
)

// First implements [Source].
func (f *File) First(ctx context.Context) (*config.Config, error) {
	cfg, err := config.Load(f.Path)
	f.applied = cfg
	if err != nil {
		return nil, err
	}
	f.found = discovery.New(discovery.Options{Logger: f.Logger})
	change := f.found.Begin(cfg)
	awaitEndpoints(ctx, change)
	change.Commit()
	return cfg, nil
}

// awaitEndpoints waits a moment for sources that are asked for the first time.
func awaitEndpoints(ctx context.Context, change *discovery.Change) {
	ctx, cancel := context.WithTimeout(ctx, endpointsWait)
	defer cancel()
	change.Await(ctx)
}

// Discovered implements [Discoverer].
func (f *File) Discovered() map[string][]config.Endpoint { return f.found.Endpoints() }

// Finding implements [Finder].
func (f *File) Finding() []discovery.Status { return f.found.Status() }

// Descs implements [metric.Collector].
func (f *File) Descs() []*metric.Desc { return f.found.Descs() }

// Collect implements [metric.Collector].
func (f *File) Collect(ch chan<- prometheus.Metric) { f.found.Collect(ch) }

// Watch implements [Source]. It returns nil.
func (f *File) Watch(ctx context.Context, sink Sink) error {
	var delivering sync.WaitGroup
	delivering.Go(func() { f.found.Deliver(ctx, sink.SetEndpoints) })
	defer func() {
		f.found.Close()
		delivering.Wait()
	}()
	// What changed between First and this look would never look changed.
	check := func() {
		if cfg, err := config.Reload(f.Path, f.applied, new(Pace).Step); err != nil || cfg.Hash() != f.applied.Hash() {
			f.give(ctx, sink)
		}
	}
	poll(ctx, f.Reload, func() fileList { return f.applied.Files() }, check, func(bool) { f.give(ctx, sink) })
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

// give gives what the files hold now. Sources of endpoints that it has in addition are asked before, and
// count only when the sink has taken it.
func (f *File) give(ctx context.Context, sink Sink) {
	cfg, err := config.Reload(f.Path, f.applied, new(Pace).Step)
	if err != nil {
		sink.Refuse(err)
		return
	}
	change := f.found.Begin(cfg)
	awaitEndpoints(ctx, change)
	for service, endpoints := range change.Found() {
		sink.SetEndpoints(service, endpoints)
	}
	if sink.Apply(cfg) != nil { // the sink reports what it refuses
		change.Abort()
		return
	}
	f.applied = cfg
	change.Commit()
}

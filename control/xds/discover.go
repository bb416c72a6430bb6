package xds

import (
	"context"
	"sync"

	"github.com/sluice-gateway/sluice/control/config"
)

// discoverer follows the endpoints of the configuration in force. One configuration's discovery ends
// before the next one's begins.
type discoverer struct {
	Options *Options

	mu     sync.Mutex
	cancel context.CancelFunc
	ended  chan struct{}
}

// follow begins with a configuration.
func (d *discoverer) follow(cfg *config.Config, set func(service string, list []config.Endpoint) error) {
	if d.Options.Discover == nil {
		return
	}
	d.stop()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	d.mu.Lock()
	d.cancel, d.ended = cancel, ended
	d.mu.Unlock()
	go func() {
		defer close(ended)
		d.Options.Discover(ctx, cfg, set)
	}()
}

// stop ends what is followed and waits for that.
func (d *discoverer) stop() {
	d.mu.Lock()
	cancel, ended := d.cancel, d.ended
	d.cancel, d.ended = nil, nil
	d.mu.Unlock()
	if cancel != nil {
		cancel()
		<-ended
	}
}

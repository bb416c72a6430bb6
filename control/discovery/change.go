package discovery

import (
	"context"
	"slices"

	"github.com/sluice-gateway/sluice/control/config"
)

// Change is a configuration whose services are going to be watched. The sources that it has and the
// one in force has not are watched from the beginning; nothing is told of them, and those in force go
// on, until Commit. Exactly one of Commit and Abort ends it, before the next one begins.
type Change struct {
	watcher *Watcher
	next    map[string]*service // those that are new, and those in force that stay
	fresh   []*service          // the new ones
	used    map[clusterKey]bool
}

// Begin begins with a configuration.
func (w *Watcher) Begin(cfg *config.Config) *Change {
	c := &Change{watcher: w, next: map[string]*service{}, used: map[clusterKey]bool{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, of := range cfg.Services {
		if of == nil || of.EndpointsFrom == nil || w.closed {
			continue
		}
		if k := of.EndpointsFrom.Kubernetes; k != nil {
			c.used[keyOfCluster(k)] = true
		}
		if s := w.services[name]; s != nil && s.key == SourceKey(of) {
			c.next[name] = s
			continue
		}
		s := w.startLocked(name, of)
		c.next[name], c.fresh = s, append(c.fresh, s)
	}
	return c
}

// Await waits until each source that is new has answered or failed once, or ctx ends.
func (c *Change) Await(ctx context.Context) { awaitAll(ctx, c.fresh) }

// Found returns the endpoints of services that were not watched before, as far as they are known.
func (c *Change) Found() map[string][]config.Endpoint {
	w := c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]config.Endpoint{}
	for _, s := range c.fresh {
		if s.known && w.services[s.name] == nil {
			all[s.name] = slices.Clone(s.endpoints)
		}
	}
	return all
}

// Commit puts the services in place. One whose source is another one and has not answered yet goes on
// with the endpoints that it has.
func (c *Change) Commit() {
	w := c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range c.fresh {
		s.inForce = true
		if old := w.services[s.name]; old != nil && !s.known && !w.o.Apart {
			s.endpoints, s.known, s.changed = old.endpoints, old.known, old.changed
			s.status.Endpoints = len(s.endpoints)
		}
	}
	for name, old := range w.services {
		if c.next[name] != old {
			old.endLocked()
		}
	}
	w.services = c.next
	w.wakeLocked()
	w.forgetClustersLocked(c.used)
}

// Abort leaves everything as it is.
func (c *Change) Abort() {
	w := c.watcher
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range c.fresh {
		s.endLocked()
	}
}

// forgetClustersLocked drops the clusters that no service uses any more.
func (w *Watcher) forgetClustersLocked(used map[clusterKey]bool) {
	for key, c := range w.clusters {
		if !used[key] {
			c.close()
			delete(w.clusters, key)
		}
	}
}

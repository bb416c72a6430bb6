package xds

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

// SetEndpoints gives the endpoints that a source ([discovery.SourceKey]) has found; nodes whose configuration has the
// source get them at once.
func (p *plane) SetEndpoints(source string, endpoints []config.Endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints[source] = slices.Clone(endpoints)
	if endpoints == nil {
		p.endpoints[source] = []config.Endpoint{} // none: that is known
	}
	p.stale = true
	p.wakeLocked()
}

// watchSources watches the sources of all releases: nodes that have one go on with what its own sources find while
// another one is tried.
func (p *plane) watchSources() {
	p.mu.Lock()
	if !p.unwatched {
		p.mu.Unlock()
		return
	}
	p.unwatched = false
	cfg, used := p.sourcesLocked()
	for source := range p.endpoints {
		if !used[source] {
			delete(p.endpoints, source)
		}
	}
	p.mu.Unlock()
	p.watcher.Configure(cfg)
}

// sourcesLocked returns a configuration with the services of all releases that differ in their sources, and the
// sources. The services of the newest release have their names, others the version behind it.
func (p *plane) sourcesLocked() (*config.Config, map[string]bool) {
	all, used := &config.Config{Services: map[string]*config.Service{}}, map[string]bool{}
	add := func(r *release, suffix string) {
		for name, s := range r.document.Config().Services {
			if s == nil || s.EndpointsFrom == nil {
				continue
			}
			if key := discovery.SourceKey(s); suffix == "" || !used[key] {
				all.Services[name+suffix], used[key] = s, true
			}
		}
	}
	if r := p.releases[p.newest]; r != nil {
		add(r, "")
	}
	for _, version := range sortedKeys(p.releases) {
		if version != p.newest {
			add(p.releases[version], "@"+version)
		}
	}
	return all, used
}

// publish gives each session the snapshot that it is to have, whenever that changes, until ctx ends.
// It alone sets snapshots, so they are set in the order of the decisions.
func (p *plane) publish(ctx context.Context) {
	tick := time.NewTicker(p.bounds.tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.logEvents()
			return
		case <-p.wake:
		case now := <-tick.C:
			p.mu.Lock()
			p.act(func(r *rollout.Rollout) bool { return r.Tick(now) })
			p.mu.Unlock()
		}
		p.watchSources()
		p.refresh()
		p.deliver(ctx)
		p.logEvents()
	}
}

// refresh makes the snapshots anew where releases or endpoints have changed.
func (p *plane) refresh() {
	p.mu.Lock()
	if !p.stale {
		p.mu.Unlock()
		return
	}
	p.stale = false
	releases, endpoints := maps.Clone(p.releases), maps.Clone(p.endpoints)
	p.mu.Unlock()

	made := map[string]map[dialect]*cache.Snapshot{}
	for version, r := range releases {
		made[version] = p.snapshotsOf(r, endpoints)
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	for version, s := range made {
		if p.releases[version] != nil && s != nil {
			p.snapshots[version] = s
		}
	}
	p.all = true
}

func (p *plane) snapshotsOf(r *release, endpoints map[string][]config.Endpoint) map[dialect]*cache.Snapshot {
	s, err := r.withEndpoints(endpoints)
	if err != nil {
		p.logger.Error("endpoints cannot be handed out; the nodes keep those that they have", "error", err)
		return nil
	}
	return s
}

// delivery is a snapshot that a session is to have.
type delivery struct {
	to       *session
	snapshot *cache.Snapshot
}

// deliver sets the snapshots of the sessions whose targets have changed.
func (p *plane) deliver(ctx context.Context) {
	list := p.deliveries()
	for _, d := range list {
		d.to.publishing.Lock()
		if !d.to.cleared {
			// Never blocks: each stream has room for two responses of each type, and has one at most.
			err := p.caches[d.to.delta].SetSnapshot(ctx, d.to.node.GetId(), d.snapshot)
			if err != nil && ctx.Err() == nil {
				p.logger.Error("a node cannot be given its configuration", "node", d.to.id, "error", err)
			}
		}
		d.to.publishing.Unlock()
	}
	if len(list) == 0 {
		return
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range list { // one that has all of it already is sent nothing, and so says nothing
		if !d.to.gone {
			d.to.convergeLocked(now)
		}
	}
}

func (p *plane) deliveries() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []delivery
	add := func(s *session) {
		version := p.rollout.Target(s.key)
		snapshot := p.snapshots[version][s.dialect]
		if !s.joined || s.gone || s.barred || snapshot == nil || snapshot == s.snapshot {
			return
		}
		s.target, s.snapshot = version, snapshot
		list = append(list, delivery{s, snapshot})
	}
	if p.all {
		for s := range p.sessions {
			add(s)
		}
	} else {
		for _, s := range p.dirty {
			add(s)
		}
	}
	p.all, p.dirty = false, nil
	return list
}

// event is something to be logged once mu is free.
type event struct {
	level   slog.Level
	message string
	args    []any
	nack    bool
}

const (
	eventInfo = iota
	eventError
	eventNack
)

// eventsMax bounds the events that wait: a fleet may refuse something all at once.
const eventsMax = 100

func (p *plane) eventLocked(kind int, message string, args ...any) {
	if kind == eventNack && len(p.events) >= eventsMax {
		return
	}
	level := slog.LevelInfo
	switch kind {
	case eventError:
		level = slog.LevelError
	case eventNack:
		level = slog.LevelWarn
	}
	p.events = append(p.events, event{level, message, args, kind == eventNack})
	p.wakeLocked()
}

func (p *plane) logEvents() {
	p.mu.Lock()
	events := p.events
	p.events = nil
	p.mu.Unlock()
	for _, e := range events {
		if e.nack { // nodes can provoke them
			p.throttle.Warn(p.logger, time.Now(), e.message, e.args...)
			continue
		}
		p.logger.Log(context.Background(), e.level, e.message, e.args...)
	}
}

// libraryLog is the logger of the library. All of it is at debug: what matters is logged here.
type libraryLog struct{ *slog.Logger }

func (l libraryLog) log(format string, args []any) {
	if l.Enabled(context.Background(), slog.LevelDebug) {
		l.Debug("xds library", "message", sprintf(format, args))
	}
}

func (l libraryLog) Debugf(string, ...any)             {} // a line a response, with its resources
func (l libraryLog) Infof(format string, args ...any)  { l.log(format, args) }
func (l libraryLog) Warnf(format string, args ...any)  { l.log(format, args) }
func (l libraryLog) Errorf(format string, args ...any) { l.log(format, args) }

package xds

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
	"github.com/sluice-gateway/sluice/filters"
)

// Bounds of what nodes may take.
const (
	streamsMax    = 10_000  // streams at one time
	typesMax      = 32      // types of resources of a stream
	namesBytesMax = 4 << 20 // of the names that a stream subscribes to, and of what is kept until it is answered
	nameCost      = 64      // bytes that a name takes beside itself
	reasonMax     = 1 << 10 // bytes that are kept of the reason of a NACK
	agentMax      = 100     // bytes of a program's name
	nacksMax      = 100     // NACKs that are kept
	requestMax    = 4 << 20 // bytes of a request
)

// bounds are those in time; tests shorten them.
type bounds struct {
	firstRequest time.Duration // a stream without a request
	send         time.Duration // a response that is not taken
	tick         time.Duration // how often a rollout looks at the time
}

var usualBounds = bounds{firstRequest: 10 * time.Second, send: 30 * time.Second, tick: time.Second}

// plane is what the nodes are given, and what is known of them. The caches of the library hold one
// snapshot a stream; the snapshots are shared.
type plane struct {
	logger    *slog.Logger
	metrics   *metrics
	bounds    bounds
	discovery server.Server
	caches    map[bool]cache.SnapshotCache // by whether the stream is delta
	wake      chan struct{}                // has room for one: the publisher has something to do
	watcher   *discovery.Watcher           // the publisher configures it
	throttle  filters.LogThrottle

	mu        sync.Mutex // guards what follows and the sessions' fields
	rules     nodeRules
	rollout   *rollout.Rollout
	releases  map[string]*release
	sessions  map[*session]struct{}
	byID      map[string][]*session // those whose nodes are known
	keys      int64
	draining  bool
	nacks     nackRing
	endpoints map[string][]config.Endpoint           // that were found, by their source
	snapshots map[string]map[dialect]*cache.Snapshot // of releases, with endpoints
	newest    string                                 // the release that was offered last
	unwatched bool                                   // the sources of endpoints may be others
	stale     bool                                   // the snapshots are
	all       bool                                   // any session's target may have changed
	dirty     []*session                             // whose targets may have
	events    []event                                // to be logged
}

// newPlane makes a plane; its streams end with ctx.
func newPlane(ctx context.Context, logger *slog.Logger, m *metrics, b bounds) *plane {
	p := &plane{
		logger: logger, metrics: m, bounds: b, wake: make(chan struct{}, 1),
		rollout: rollout.New(rollout.Settings{}), releases: map[string]*release{},
		sessions: map[*session]struct{}{}, byID: map[string][]*session{}, endpoints: map[string][]config.Endpoint{},
		snapshots: map[string]map[dialect]*cache.Snapshot{},
	}
	quiet := libraryLog{logger}
	// State of the world without the ADS mode of the cache, which never answers a node that names only
	// some of a type's resources; delta with it, since it orders the types.
	p.caches = map[bool]cache.SnapshotCache{
		false: cache.NewSnapshotCache(false, cache.IDHash{}, quiet),
		true:  cache.NewSnapshotCache(true, cache.IDHash{}, quiet),
	}
	p.discovery = server.NewServerAdvanced(nil,
		sotw.NewServer(ctx, p.caches[false], nil, sotw.WithLogger(quiet)),
		delta.NewServer(ctx, p.caches[true], nil, delta.WithLogger(quiet)))
	m.watch(p)
	return p
}

// open begins a session.
func (p *plane) open(c caller, isDelta bool) (*session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.draining:
		return nil, status.Error(codes.Unavailable, "the control plane is draining")
	case len(p.sessions) >= streamsMax:
		err := status.Errorf(codes.ResourceExhausted, "%d streams are open, and no more are taken", streamsMax)
		p.refuse(c, "", err)
		return nil, err
	}
	p.keys++
	s := &session{
		plane: p, caller: c, delta: isDelta, key: rollout.Key(p.keys), node: nodeOf(strconv.FormatInt(p.keys, 36)),
		ended: make(chan error, 1), opened: time.Now(), types: map[string]*typeState{},
	}
	p.sessions[s] = struct{}{}
	return s, nil
}

// leave takes a session out of the fleet.
func (p *plane) leave(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.gone {
		return
	}
	s.gone = true
	delete(p.sessions, s)
	if list := slices.DeleteFunc(p.byID[s.id], func(o *session) bool { return o == s }); len(list) > 0 {
		p.byID[s.id] = list
	} else {
		delete(p.byID, s.id)
	}
	p.rollout.Disconnect(s.key)
}

// close ends a session of which the library has nothing any more.
func (p *plane) close(s *session) {
	p.leave(s)
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.cleared = true
	p.caches[s.delta].ClearSnapshot(s.node.GetId())
}

// act lets the rollout do something and notes what came of it. Its caller holds mu.
func (p *plane) act(do func(*rollout.Rollout) bool) {
	before := p.rollout.Versions()
	changed := do(p.rollout)
	after := p.rollout.Versions()
	if after != before {
		p.noteRolloutLocked(before, after)
	}
	if changed || after != before {
		p.all = true
		p.wakeLocked()
	}
}

func (p *plane) noteRolloutLocked(before, after rollout.Versions) {
	switch {
	case after.Rejected != nil && after.Rejected != before.Rejected:
		p.metrics.takenBack.Inc()
		p.eventLocked(eventError, "a configuration was taken back; the nodes return to the one before it",
			"version", after.Rejected.Version, "node", after.Rejected.Node, "reason", after.Rejected.Reason,
			"returned_to", cmp.Or(after.Stable, after.Previous))
	case after.Candidate != "" && after.Candidate != before.Candidate:
		p.eventLocked(eventInfo, "a configuration is being rolled out", "version", after.Candidate,
			"before", after.Stable)
	case after.Stable != before.Stable:
		p.eventLocked(eventInfo, "the configuration is in force", "version", after.Stable)
	}
	for version := range p.releases {
		rejected := after.Rejected != nil && after.Rejected.Version == version
		if version != after.Stable && version != after.Candidate && version != after.Previous && !rejected {
			delete(p.releases, version)
			delete(p.snapshots, version)
			p.unwatched = true
		}
	}
}

// offer begins to roll a release out.
func (p *plane) offer(now time.Time, r *release) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releases[r.version], p.newest = r, r.version
	p.stale, p.unwatched = true, true
	p.act(func(o *rollout.Rollout) bool { return o.Offer(now, r.version) })
	p.endUnsafeLocked()
	p.wakeLocked()
}

// configure puts in force who may be which node, and how changes are tried. A stream of a node that
// may no longer be one ends.
func (p *plane) configure(now time.Time, rules nodeRules, s rollout.Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = rules
	p.act(func(o *rollout.Rollout) bool { return o.Configure(now, s) })
	for s := range p.sessions {
		if s.id == "" {
			continue
		}
		if err := rules.checkNode(s.caller, s.id); err != nil {
			p.refuse(s.caller, s.id, err)
			s.barLocked(err)
		}
	}
}

// offerAgain tries a release that was taken back once more.
func (p *plane) offerAgain(now time.Time, r *release) {
	p.mu.Lock()
	taken := p.rollout.Versions().Rejected
	p.mu.Unlock()
	if taken != nil && taken.Version == r.version {
		p.offer(now, r)
	}
}

// drain takes no further streams. Those that are open end with an error that has clients go elsewhere.
func (p *plane) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
	for s := range p.sessions {
		_ = s.end(status.Error(codes.Unavailable, "the control plane is draining"))
	}
}

// endUnsafeLocked ends the streams over which the secrets of a document must not travel, and those of nodes for which
// it cannot be compiled.
func (p *plane) endUnsafeLocked() {
	for s := range p.sessions {
		if s.id == "" {
			continue
		}
		if err := p.barredLocked(s.dialect, s.caller); err != nil {
			p.refuse(s.caller, s.id, err)
			s.barLocked(err)
		}
	}
}

// barredLocked says why a node may not be sent what nodes may be sent now; nil: it may.
func (p *plane) barredLocked(of dialect, c caller) error {
	err := p.lackFaultLocked()
	if of == native {
		err = nil
		if !c.tls {
			err = p.secretsFaultLocked()
		}
	}
	if err == nil {
		return nil
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// lackFaultLocked says that a document that nodes may be sent cannot be compiled for Envoys; nil: each can.
func (p *plane) lackFaultLocked() error {
	for _, version := range sortedKeys(p.releases) {
		if err := p.releases[version].noEnvoys; err != nil {
			return err
		}
	}
	return nil
}

// secretsFaultLocked says that a document that nodes may be sent has secrets; nil: none has.
func (p *plane) secretsFaultLocked() error {
	for _, version := range sortedKeys(p.releases) {
		if err := p.releases[version].secretsFault(); err != nil {
			return err
		}
	}
	return nil
}

// releaseOfLocked returns the release that a response to a session was of, by the version of its
// type. Where the stable release has the same resources of that type, it is not the candidate's
// doing.
func (p *plane) releaseOfLocked(s *session, typeURL, version string) string {
	v := p.rollout.Versions()
	for _, name := range []string{v.Stable, v.Previous, v.Candidate, s.target} {
		if r := p.releases[name]; r != nil && r.compiled[s.dialect].GetVersion(typeURL) == version {
			return name
		}
	}
	return version
}

func (p *plane) dirtyLocked(s *session) {
	p.dirty = append(p.dirty, s)
	p.wakeLocked()
}

func (p *plane) wakeLocked() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// refuse notes a stream that is not taken, for the operator.
func (p *plane) refuse(c caller, id string, err error) {
	p.metrics.refused.WithLabelValues(status.Code(err).String()).Inc()
	if now := time.Now(); !p.throttle.Skip(now) {
		p.throttle.Warn(p.logger, now, "a stream of a node is refused", "peer", c.address, "node", clip(id, nodeIDMax),
			"certificate", c.subject, "reason", status.Convert(err).Message())
	}
}

// clip cuts a text to a number of bytes.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return strings.Clone(s)
}

func versionText(major, minor, patch uint32) string {
	return fmt.Sprintf("%d.%d.%d", major, minor, patch)
}

// shortType is the name of a type without the packages before it.
func shortType(typeURL string) string {
	return clip(typeURL[strings.LastIndexByte(typeURL, '.')+1:], agentMax)
}

// typeLabel is the name of a type in metrics: a client may name any, and its names are no labels.
func typeLabel(typeURL string) string {
	if cache.GetResponseType(typeURL) == types.UnknownType {
		return "other"
	}
	return shortType(typeURL)
}

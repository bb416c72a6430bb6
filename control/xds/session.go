package xds

import (
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/control/nativedialect"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

// session is one stream of a node.
type session struct {
	plane  *plane
	caller caller
	delta  bool
	key    rollout.Key
	node   *core.Node // stands for the session in the caches
	ended  chan error // has room for one: why the stream is to end
	opened time.Time

	// Guarded by plane.mu.
	id       string // empty: no request yet
	agent    string // the program and its version, as it says
	dialect  dialect
	joined   bool // it takes part in the rollout
	loads    bool // it is a stream of load reports
	barred   bool // it is to end, and is sent nothing meanwhile
	gone     bool
	types    map[string]*typeState
	names    int    // bytes of the names that it subscribes to, and of what is kept until it is answered
	target   string // the release that its snapshot is of; empty: none yet
	snapshot *cache.Snapshot
	version  string // the release that it has acknowledged; empty: none, or not known
	nack     *Nack
	reported rollout.Sample // requests that the node has reported

	publishing sync.Mutex // held while the caches' entry of the session is set or cleared
	cleared    bool       // guarded by publishing
}

// typeState is how a session stands with one type of resource.
type typeState struct {
	nonce   string // of the last response
	sent    string // its version
	acked   string // the version that was acknowledged last
	refused bool   // the last response
	// Of the first request: what the node has from an earlier stream, and what it asks for by name.
	holds   map[string]string
	version string
	asked   []string
	// What is subscribed to.
	names map[string]struct{} // delta
	named int                 // state of the world: bytes
}

// request is what is looked at in a request of either protocol.
type request struct {
	node                   *core.Node
	typeURL, nonce         string
	refused                bool // it is a NACK
	reason                 string
	holds                  map[string]string // delta: versions of resources, at the first request
	subscribe, unsubscribe []string          // delta
	sotw                   bool
	version                string   // state of the world: of the last response that was good
	names                  []string // and all names
}

// request looks at a request before the library does. The error ends the stream.
func (s *session) request(r request) error {
	p, now := s.plane, time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.gone || s.barred {
		return status.Error(codes.Canceled, "the stream has ended")
	}
	if err := s.identifyLocked(r.node); err != nil {
		return err
	}
	t, err := s.typeLocked(&r)
	if err != nil {
		return err
	}
	if !s.joined && (s.dialect == envoy || r.typeURL == resource.ExtensionConfigType) {
		s.joined = true
		has := s.hasLocked(t)
		p.act(func(o *rollout.Rollout) bool { return o.Connect(now, s.key, s.id, string(s.dialect), has) })
		p.dirtyLocked(s)
	}
	if r.nonce == "" || r.nonce != t.nonce {
		return nil
	}
	if r.refused {
		s.nackLocked(now, t, r.typeURL, r.reason)
		return nil
	}
	// One with the nonce of what was refused, or with another version, only changes the names.
	if !t.refused && (!r.sotw || r.version == t.sent) && t.acked != t.sent {
		t.acked = t.sent
		s.convergeLocked(now)
	}
	return nil
}

// identifyLocked takes the node from the first request, and holds the session to it.
func (s *session) identifyLocked(n *core.Node) error {
	p := s.plane
	if s.id != "" {
		if n != nil && n.GetId() != s.id {
			return status.Errorf(codes.InvalidArgument, "the stream is that of node %q, not of %.80q", s.id, n.GetId())
		}
		return nil
	}
	if err := p.rules.checkNode(s.caller, n.GetId()); err != nil {
		p.refuse(s.caller, n.GetId(), err)
		return err
	}
	of := envoy
	if n.GetUserAgentName() == nativedialect.UserAgent {
		of = native
	}
	if err := p.barredLocked(of, s.caller); err != nil {
		p.refuse(s.caller, n.GetId(), err)
		return err
	}
	for _, other := range p.byID[n.GetId()] {
		if other.caller.subject != s.caller.subject {
			err := status.Errorf(codes.PermissionDenied,
				"node %q is connected with the certificate of %q: that of %q may not be the same node at one time",
				other.id, other.caller.subject, s.caller.subject)
			p.refuse(s.caller, n.GetId(), err)
			return err
		}
	}
	s.id, s.dialect, s.agent = strings.Clone(n.GetId()), of, agentOf(n)
	p.byID[s.id] = append(p.byID[s.id], s)
	return nil
}

// agentOf names the program that a node runs.
func agentOf(n *core.Node) string {
	name := n.GetUserAgentName()
	if v := n.GetUserAgentVersion(); v != "" {
		name += " " + v
	} else if b := n.GetUserAgentBuildVersion().GetVersion(); b != nil {
		name += " " + versionText(b.GetMajorNumber(), b.GetMinorNumber(), b.GetPatch())
	}
	return clip(name, agentMax)
}

// barLocked ends the session's stream and has it sent nothing more until it has ended.
func (s *session) barLocked(err error) {
	s.barred = true
	_ = s.end(err)
}

// named reports whether the session's node is known.
func (s *session) named() bool {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	return s.id != ""
}

// typeLocked returns how the session stands with the type of a request, and bounds what a session
// may subscribe to.
func (s *session) typeLocked(r *request) (*typeState, error) {
	t := s.types[r.typeURL]
	first := t == nil
	if first {
		if len(s.types) == typesMax {
			return nil, status.Errorf(codes.ResourceExhausted, "more than %d types of resources", typesMax)
		}
		t = &typeState{holds: r.holds, version: r.version, asked: r.subscribe}
		if r.sotw {
			t.asked = r.names
		}
		s.types[strings.Clone(r.typeURL)] = t
	}
	if first {
		s.names += t.kept()
	}
	s.names += t.subscribe(r)
	if s.names > namesBytesMax {
		return nil, status.Errorf(codes.ResourceExhausted, "the names subscribed to take more than %d bytes",
			namesBytesMax)
	}
	return t, nil
}

// kept returns how many bytes of versions of a first request are kept until it is answered.
func (t *typeState) kept() int {
	n := len(t.version)
	for name, version := range t.holds {
		n += len(name) + len(version) + nameCost
	}
	return n
}

// subscribe notes what a request subscribes to, and returns how many bytes that adds. A name that was not subscribed
// to takes nothing off when it is given up, or a client could go on for ever.
func (t *typeState) subscribe(r *request) (more int) {
	if r.sotw { // each request has all names
		n := 0
		for _, name := range r.names {
			n += len(name) + nameCost
		}
		more, t.named = n-t.named, n
		return more
	}
	for _, name := range r.subscribe {
		if _, had := t.names[name]; had {
			continue
		}
		if t.names == nil {
			t.names = map[string]struct{}{}
		}
		t.names[name] = struct{}{}
		more += len(name) + nameCost
	}
	for _, name := range r.unsubscribe {
		if _, had := t.names[name]; had {
			delete(t.names, name)
			more -= len(name) + nameCost
		}
	}
	return more
}

// unknownVersion stands for a version that a node has and that is not known here.
const unknownVersion = "?"

// hasLocked returns the version that a node comes with. Of an Envoy only whether it has any: one type
// says nothing of the others.
func (s *session) hasLocked(t *typeState) string {
	if len(t.holds) == 0 && t.version == "" {
		return ""
	}
	if s.dialect == native {
		for _, r := range s.plane.releases {
			if t.holdsAll(r.compiled[native], resource.ExtensionConfigType) {
				return r.version
			}
		}
	}
	return unknownVersion
}

// holdsAll reports whether a node came with just what a snapshot has of a type.
func (t *typeState) holdsAll(s *cache.Snapshot, typeURL string) bool {
	if t.version != "" {
		return t.version == s.GetVersion(typeURL)
	}
	want := s.VersionMap[typeURL]
	for name, version := range t.holds {
		if want[name] != version {
			return false
		}
	}
	if len(t.asked) == 0 {
		return len(t.holds) == len(want) && len(want) > 0
	}
	for _, name := range t.asked {
		if want[name] != t.holds[name] {
			return false
		}
	}
	return len(t.holds) > 0
}

// response notes a response that is about to be sent.
func (s *session) response(typeURL, nonce, version string) {
	p := s.plane
	p.mu.Lock()
	defer p.mu.Unlock()
	p.metrics.responses.Inc()
	if t := s.types[typeURL]; t != nil {
		t.nonce, t.sent, t.refused = nonce, version, false
		s.names -= t.kept()
		t.holds, t.asked, t.version = nil, nil, ""
	}
}

// parked returns the version of a response that was refused; empty: it was not.
func (s *session) parked(typeURL, nonce string) string {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	if t := s.types[typeURL]; t != nil && t.refused && t.nonce == nonce {
		return t.sent
	}
	return ""
}

// nackLocked notes that a node has refused a response, once.
func (s *session) nackLocked(now time.Time, t *typeState, typeURL, reason string) {
	if t.refused {
		return
	}
	t.refused = true
	p := s.plane
	reason = clip(strings.ToValidUTF8(reason, "?"), reasonMax)
	n := Nack{
		Node: s.id, Type: shortType(typeURL), Version: p.releaseOfLocked(s, typeURL, t.sent), Message: reason,
		Time: now.UTC(),
	}
	s.nack = &n
	p.nacks.add(n)
	p.metrics.nacks.WithLabelValues(typeLabel(typeURL)).Inc()
	p.eventLocked(eventNack, "a node has refused what it was sent", "node", n.Node, "type", n.Type,
		"version", n.Version, "reason", n.Message)
	if typeURL == resource.EndpointType {
		return // they are no part of a release
	}
	p.act(func(o *rollout.Rollout) bool { return o.Nack(now, s.key, n.Version, n.Message) })
}

// convergeLocked tells the rollout when a node has all of the release that it was sent.
func (s *session) convergeLocked(now time.Time) {
	if s.snapshot == nil || s.version == s.target || !s.hasAllLocked() {
		return
	}
	s.version = s.target
	s.plane.act(func(o *rollout.Rollout) bool { return o.Ack(now, s.key, s.version) })
}

// hasAllLocked reports whether each type of the session's snapshot has been acknowledged, of those
// that the node asks for. What it asks for last has to be among them: an Envoy asks for listeners
// when it has the clusters, and for routes when it has the listeners.
func (s *session) hasAllLocked() bool {
	last := resource.ExtensionConfigType
	if s.dialect == envoy {
		last = resource.ListenerType
	}
	if s.types[last] == nil && len(s.snapshot.GetResources(last)) > 0 {
		return false
	}
	for typeURL, t := range s.types {
		want := s.snapshot.GetVersion(typeURL)
		if want == "" || typeURL == resource.EndpointType || t.acked == want {
			continue
		}
		if t.nonce != "" || !t.holdsAll(s.snapshot, typeURL) {
			return false
		}
	}
	return true
}

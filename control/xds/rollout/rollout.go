package rollout

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

// silentAfter is how long a node may take to acknowledge before others are tried in its place.
const silentAfter = 10 * time.Second

// Settings are how changes are tried.
type Settings struct {
	Canary bool
	Share  float64       // of the nodes of a kind, above 0 to 1
	For    time.Duration // from the first acknowledgement
	Errors float64       // by how much the canary's error rate may be above that of the others, 0 to 1
}

// Key is a connection of a node.
type Key int64

// Phase is how far a version has come.
type Phase string

// The phases.
const (
	Idle       Phase = "idle"        // nothing was offered yet
	Stable     Phase = "stable"      // what was offered last is in force
	RollingOut Phase = "rolling-out" // it goes to all nodes
	OnCanary   Phase = "canary"      // it goes to a share of them
	TakenBack  Phase = "taken-back"  // it was refused
)

// Rejection is why a version was taken back.
type Rejection struct {
	Version string
	Node    string // that refused it; empty where the error rate was the reason
	Reason  string
	At      time.Time
}

// Rollout is the state of the fleet. It is not safe for concurrent use. Methods that return a bool
// say by it whether targets of other nodes may have changed.
type Rollout struct {
	settings  Settings
	stable    string // empty: not known
	candidate string // empty: none
	previous  string // while none is stable: the candidate before, which nodes may return to
	begun     time.Time
	firstAck  time.Time // of the candidate; zero: none yet
	rejected  *Rejection
	nodes     map[Key]*node
	kinds     map[string]*kind
	tried     Sample // requests of nodes that have the candidate
	others    Sample // and of all others meanwhile
}

// Sample counts requests.
type Sample struct{ Requests, Errors int64 }

type node struct {
	id      string
	kind    *kind
	rank    uint64
	has     string // the version that it acknowledged last or came with; empty: none
	before  string // what it had when it was given the candidate
	given   bool   // the candidate
	acked   bool   // the candidate
	silent  bool
	givenAt time.Time

	hadPrevious bool // it was given the previous version, which it may have acknowledged in part only
}

// kind counts the nodes of a kind.
type kind struct {
	total    int
	active   int  // given and not silent
	silent   int  // given, and did not acknowledge in time
	acked    int  // that are connected
	everGood bool // one has acknowledged the candidate
}

// New returns a rollout of no version.
func New(s Settings) *Rollout {
	return &Rollout{settings: s, nodes: map[Key]*node{}, kinds: map[string]*kind{}}
}

// Configure changes how changes are tried, from now on.
func (r *Rollout) Configure(now time.Time, s Settings) bool {
	if s == r.settings {
		return false
	}
	r.settings = s
	return r.Tick(now)
}

// Offer begins with a version, or again with one that was taken back. The stable one ends whatever
// is under way.
func (r *Rollout) Offer(now time.Time, version string) bool {
	if version == r.candidate {
		return false
	}
	r.rejected = nil
	r.keepPrevious()
	if version == r.stable {
		version = ""
	}
	r.begin(now, version)
	if version != "" && !r.promote(now) {
		r.fill(now)
	}
	return true
}

// keepPrevious has the candidate be what nodes return to while none is stable. One that no node has
// acknowledged yet was not refused either, so it is better than nothing.
func (r *Rollout) keepPrevious() {
	if r.stable != "" || r.candidate == "" || r.firstAck.IsZero() && r.previous != "" {
		return
	}
	r.previous = r.candidate
	for _, n := range r.nodes {
		n.hadPrevious = n.given
	}
}

// begin makes a version the candidate, empty for none. Nodes that came with it have proved it.
func (r *Rollout) begin(now time.Time, version string) {
	r.candidate, r.begun, r.firstAck = version, now, time.Time{}
	r.tried, r.others = Sample{}, Sample{}
	for _, k := range r.kinds {
		*k = kind{total: k.total}
	}
	for _, n := range r.nodes {
		n.given, n.acked, n.silent = false, false, false
		if version != "" && n.has == version {
			r.give(now, n)
			r.mark(now, n)
		}
	}
}

// Connect adds a node; has is the version that it comes with, empty for none.
func (r *Rollout) Connect(now time.Time, key Key, id, kindName, has string) bool {
	k := r.kinds[kindName]
	if k == nil {
		k = new(kind)
		r.kinds[kindName] = k
	}
	k.total++
	n := &node{id: id, kind: k, rank: rank(id), has: has}
	r.nodes[key] = n
	switch {
	case r.candidate == "":
	case has == r.candidate:
		r.give(now, n)
		return r.acknowledged(now, n)
	case k.active < r.limit(k) && (k.everGood || r.healthy(has)) || r.freshMay(n):
		r.give(now, n)
	}
	return false
}

// healthy reports whether a node's word of a candidate counts: the one that refuses a candidate and
// does not have the stable version either has a trouble of its own.
func (r *Rollout) healthy(has string) bool { return r.stable == "" || has == r.stable }

// Disconnect removes a node. Another takes its place in a trial at the next Tick: it may come back
// at once.
func (r *Rollout) Disconnect(key Key) {
	n := r.nodes[key]
	if n == nil {
		return
	}
	delete(r.nodes, key)
	n.kind.total--
	if n.acked {
		n.kind.acked--
	}
	switch {
	case n.silent:
		n.kind.silent--
	case n.given:
		n.kind.active--
	}
}

// Ack says that a node has put a version in force.
func (r *Rollout) Ack(now time.Time, key Key, version string) bool {
	n := r.nodes[key]
	if n == nil {
		return false
	}
	n.has = version
	if version != r.candidate || r.candidate == "" || n.acked {
		return false
	}
	if !n.given {
		r.give(now, n)
	}
	return r.acknowledged(now, n)
}

// Nack says that a node has refused a version, and why. It takes a candidate back.
func (r *Rollout) Nack(now time.Time, key Key, version, reason string) bool {
	n := r.nodes[key]
	switch {
	case n == nil || version != r.candidate || r.candidate == "":
		return false
	case n.given && !r.healthy(n.before):
		if !n.silent && !n.acked {
			r.silence(n)
		}
		return r.fill(now)
	}
	r.reject(now, n.id, reason)
	return true
}

// silence has a node not counted as one that tries the candidate.
func (r *Rollout) silence(n *node) {
	n.silent = true
	n.kind.active--
	n.kind.silent++
}

// Load adds what a node reports of its requests.
func (r *Rollout) Load(now time.Time, key Key, s Sample) bool {
	n := r.nodes[key]
	if n == nil || r.candidate == "" {
		return false
	}
	into := &r.others
	if n.acked {
		into = &r.tried
	}
	into.Requests += s.Requests
	into.Errors += s.Errors
	return r.judge(now)
}

// Tick looks at the time.
func (r *Rollout) Tick(now time.Time) bool {
	if r.candidate == "" {
		return false
	}
	for _, n := range r.nodes {
		if n.given && !n.acked && !n.silent && now.Sub(n.givenAt) >= silentAfter {
			r.silence(n)
		}
	}
	if r.promote(now) {
		return true
	}
	return r.fill(now)
}

// Target returns the version that a node is to have; empty: what it has.
func (r *Rollout) Target(key Key) string {
	n := r.nodes[key]
	switch {
	case n == nil:
		return ""
	case r.candidate != "" && n.given:
		return r.candidate
	case r.stable != "":
		return r.stable
	case r.rejected != nil && r.previous != "" &&
		(n.hadPrevious || n.before == r.previous || n.has == r.previous || n.has == ""):
		return r.previous
	case r.rejected != nil && n.has == "":
		return r.rejected.Version
	}
	return ""
}

// Pending reports whether time has to be looked at.
func (r *Rollout) Pending() bool { return r.candidate != "" }

// give lets a node have the candidate.
func (r *Rollout) give(now time.Time, n *node) {
	n.given, n.givenAt, n.before = true, now, n.has
	n.kind.active++
}

// acknowledged notes a node's good word of the candidate; the first of a kind lets others have it.
func (r *Rollout) acknowledged(now time.Time, n *node) bool {
	first := !n.kind.everGood
	r.mark(now, n)
	if first && r.fill(now) {
		return true
	}
	return !r.settings.Canary && n.kind.acked+n.kind.silent == n.kind.total && r.promote(now)
}

func (r *Rollout) mark(now time.Time, n *node) {
	n.acked = true
	n.kind.acked++
	n.kind.everGood = true
	if n.silent { // late
		n.silent = false
		n.kind.silent--
		n.kind.active++
	}
	if r.firstAck.IsZero() {
		r.firstAck = now
	}
}

// limit returns how many nodes of a kind may have the candidate now.
func (r *Rollout) limit(k *kind) int {
	switch {
	case !k.everGood:
		return max(1, k.silent)
	case r.settings.Canary:
		return max(1, int(r.settings.Share*float64(k.total)))
	}
	return k.total
}

// freshMay reports whether a node without any version may have the candidate for want of a better
// one.
func (r *Rollout) freshMay(n *node) bool { return r.stable == "" && n.has == "" && n.kind.everGood }

// fill gives the candidate to as many nodes as may have it: healthy ones first, by rank.
func (r *Rollout) fill(now time.Time) bool {
	var waiting []*node
	for _, n := range r.nodes {
		if !n.given && (n.kind.active < r.limit(n.kind) || r.freshMay(n)) {
			waiting = append(waiting, n)
		}
	}
	slices.SortFunc(waiting, func(a, b *node) int {
		if x, y := r.healthy(a.has), r.healthy(b.has); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.id, b.id))
	})
	changed := false
	for _, n := range waiting {
		if n.kind.active < r.limit(n.kind) || r.freshMay(n) {
			r.give(now, n)
			changed = true
		}
	}
	return changed
}

// promote makes the candidate the stable version when it has proved itself.
func (r *Rollout) promote(now time.Time) bool {
	if r.firstAck.IsZero() {
		return false
	}
	for _, k := range r.kinds {
		switch {
		case k.total == 0:
		case !k.everGood && k.silent == 0:
			return false // not tried yet
		case !r.settings.Canary && k.acked+k.silent < k.total:
			return false
		}
	}
	if r.settings.Canary && now.Sub(r.firstAck) < r.settings.For {
		return false
	}
	r.stable, r.previous = r.candidate, ""
	r.begin(now, "")
	return true
}

// reject takes the candidate back.
func (r *Rollout) reject(now time.Time, node, reason string) {
	r.rejected = &Rejection{Version: r.candidate, Node: node, Reason: reason, At: now}
	r.begin(now, "")
}

// rank orders the nodes by a hash of their ids, which says nothing of where they run. FNV alone
// leaves ids that differ in their last character close together, so it is mixed (the finalizer of
// MurmurHash3, public domain).
func rank(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash takes everything
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

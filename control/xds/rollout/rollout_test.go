package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)

// fleet is a rollout with nodes that do as they are told.
type fleet struct {
	*Rollout
	t   *testing.T
	now time.Time
}

func newFleet(t *testing.T, s Settings) *fleet { return &fleet{New(s), t, start} }

func (f *fleet) connect(kind string, has string, keys ...Key) {
	for _, k := range keys {
		f.Connect(f.now, k, fmt.Sprintf("%s-%d", kind, k), kind, has)
	}
}

// have returns the keys whose target is a version.
func (f *fleet) have(version string, keys ...Key) (list []Key) {
	for _, k := range keys {
		if f.Target(k) == version {
			list = append(list, k)
		}
	}
	return list
}

// settle lets every node that has the candidate acknowledge it, until nothing moves.
func (f *fleet) settle(version string, keys ...Key) {
	for range 3 { // the first, those that may have it then, and everybody
		for _, k := range f.have(version, keys...) {
			f.Ack(f.now, k, version)
		}
	}
}

func (f *fleet) expect(want State) {
	f.t.Helper()
	got := f.State()
	if got.Phase != want.Phase || got.Stable != want.Stable || got.Candidate != want.Candidate {
		f.t.Errorf("phase %s stable %q candidate %q, want %s %q %q",
			got.Phase, got.Stable, got.Candidate, want.Phase, want.Stable, want.Candidate)
	}
}

func keys(from, to Key) (list []Key) {
	for k := from; k <= to; k++ {
		list = append(list, k)
	}
	return list
}

func TestOneNodeFirstThenAll(t *testing.T) {
	f := newFleet(t, Settings{})
	all := keys(1, 10)
	f.connect("gateway", "", all...)
	f.Offer(f.now, "v1")
	first := f.have("v1", all...)
	if len(first) != 1 {
		t.Fatalf("%d nodes have it, want 1", len(first))
	}
	if !f.Ack(f.now, first[0], "v1") {
		t.Error("the first acknowledgement changes nothing")
	}
	if n := len(f.have("v1", all...)); n != 10 {
		t.Errorf("%d nodes have it, want all", n)
	}
	f.expect(State{Phase: RollingOut, Candidate: "v1"})
	f.settle("v1", all...)
	f.expect(State{Phase: Stable, Stable: "v1"})
}

func TestNackTakesBack(t *testing.T) {
	f := newFleet(t, Settings{})
	all := keys(1, 10)
	f.connect("gateway", "v1", all...)
	f.Offer(f.now, "v1")
	f.expect(State{Phase: Stable, Stable: "v1"})
	f.Offer(f.now, "v2")
	first := f.have("v2", all...)
	if len(first) != 1 || len(f.have("v1", all...)) != 9 {
		t.Fatalf("%d nodes have the new one, want 1", len(first))
	}
	if !f.Nack(f.now, first[0], "v2", "no") {
		t.Error("nothing changes")
	}
	if n := len(f.have("v1", all...)); n != 10 {
		t.Errorf("%d nodes return, want all", n)
	}
	f.expect(State{Phase: TakenBack, Stable: "v1"})
	if r := f.State().Rejected; r.Version != "v2" || r.Reason != "no" || r.Node == "" {
		t.Errorf("%+v", r)
	}
	if f.Nack(f.now, first[0], "v2", "no") || f.Nack(f.now, first[0], "v1", "no") {
		t.Error("a NACK of what is no candidate changes something")
	}
	f.Offer(f.now, "v2") // once more
	f.expect(State{Phase: RollingOut, Stable: "v1", Candidate: "v2"})
	f.Offer(f.now, "v1") // the file is as it was
	f.expect(State{Phase: Stable, Stable: "v1"})
}

// A node that cannot use the stable version either keeps no change from the others.
func TestBrokenNodeHoldsNobodyUp(t *testing.T) {
	f := newFleet(t, Settings{})
	f.connect("gateway", "v1", 1, 2, 3)
	f.Offer(f.now, "v1")
	f.connect("gateway", "", 4)
	f.Nack(f.now, 4, "v1", "it lacks a variable")
	f.Offer(f.now, "v2")
	if f.Target(4) == "v2" {
		t.Error("the broken node is the first to be tried")
	}
	f.settle("v2", 1, 2, 3)
	if f.Nack(f.now, 4, "v2", "it lacks a variable"); f.State().Rejected != nil {
		t.Errorf("taken back: %+v", f.State().Rejected)
	}
	f.Tick(f.now)
	f.expect(State{Phase: Stable, Stable: "v2"})
	f.Offer(f.now, "v3") // where all are broken, they are tried all the same
	for _, k := range []Key{1, 2, 3} {
		f.Disconnect(k)
	}
	f.Tick(f.now)
	if f.Target(4) != "v3" {
		t.Errorf("it has %q", f.Target(4))
	}
	f.settle("v3", 4)
	f.expect(State{Phase: Stable, Stable: "v3"})
}

// Each kind is tried by itself: what gateways take Envoys may refuse.
func TestKindsAreTriedByThemselves(t *testing.T) {
	f := newFleet(t, Settings{})
	gateways, envoys := keys(1, 5), keys(11, 15)
	f.connect("gateway", "", gateways...)
	f.connect("envoy", "", envoys...)
	f.Offer(f.now, "v1")
	f.settle("v1", gateways...)
	if n := len(f.have("v1", envoys...)); n != 1 {
		t.Errorf("%d Envoys have it, want 1", n)
	}
	f.expect(State{Phase: RollingOut, Candidate: "v1"})
	f.settle("v1", envoys...)
	f.expect(State{Phase: Stable, Stable: "v1"})
}

// A node that says nothing holds nobody up; what nobody acknowledges spreads slowly.
func TestSilentNodes(t *testing.T) {
	f := newFleet(t, Settings{})
	all := keys(1, 20)
	f.connect("gateway", "v1", all...)
	f.Offer(f.now, "v1")
	f.Offer(f.now, "v2")
	for _, want := range []int{1, 2, 4, 8, 16, 20} {
		if n := len(f.have("v2", all...)); n != want {
			t.Errorf("%d nodes have it, want %d", n, want)
		}
		f.now = f.now.Add(silentAfter)
		f.Tick(f.now)
	}
	f.expect(State{Phase: RollingOut, Stable: "v1", Candidate: "v2"})
	f.Ack(f.now, 3, "v2") // late, and the only one
	f.expect(State{Phase: Stable, Stable: "v2"})
}

func TestCanary(t *testing.T) {
	f := newFleet(t, Settings{Canary: true, Share: 0.1, For: time.Minute, Errors: 0.02})
	all := keys(1, 300)
	f.connect("gateway", "v1", all...)
	f.Offer(f.now, "v1")
	f.now = f.now.Add(time.Minute)
	f.Tick(f.now)
	f.expect(State{Phase: Stable, Stable: "v1"})
	f.Offer(f.now, "v2")
	if n := len(f.have("v2", all...)); n != 1 {
		t.Errorf("%d nodes have it at first, want 1", n)
	}
	f.settle("v2", all...)
	if n := len(f.have("v2", all...)); n != 30 {
		t.Errorf("%d nodes have it, want 30", n)
	}
	f.expect(State{Phase: OnCanary, Stable: "v1", Candidate: "v2"})
	if until := f.State().Until; until != f.now.Add(time.Minute) {
		t.Errorf("until %s", until)
	}
	f.now = f.now.Add(time.Minute - time.Nanosecond)
	if f.Tick(f.now); len(f.have("v2", all...)) != 30 {
		t.Error("it does not wait")
	}
	f.now = f.now.Add(time.Nanosecond)
	if !f.Tick(f.now) || len(f.have("v2", all...)) != 300 {
		t.Error("it goes to no one else")
	}
	f.expect(State{Phase: Stable, Stable: "v2"})
}

// The share is never exceeded, however nodes come and go; one node may have it in any fleet.
func TestCanaryNeverExceedsItsShare(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		f := newFleet(t, Settings{Canary: true, Share: 0.1, For: time.Hour, Errors: 0.02})
		f.connect("gateway", "v1", 1)
		f.Offer(f.now, "v1")
		f.now = f.now.Add(time.Hour)
		f.Tick(f.now)
		f.Offer(f.now, "v2")
		next, most := Key(2), 1
		var live []Key
		for range 300 {
			switch random.IntN(3) {
			case 0, 1:
				f.connect("gateway", "v1", next)
				live = append(live, next)
				next++
			case 2:
				if len(live) > 0 {
					i := random.IntN(len(live))
					f.Disconnect(live[i])
					live = append(live[:i], live[i+1:]...)
				}
			}
			f.settle("v2", live...)
			f.Tick(f.now)
			most = max(most, len(live)+1)
			if n := len(f.have("v2", live...)); n > max(1, most/10) {
				t.Fatalf("seed %d: %d of %d nodes have it", seed, n, len(live))
			}
		}
	}
}

func TestCanaryReturnsByErrors(t *testing.T) {
	for _, c := range []struct {
		name           string
		tried, others  Sample
		back           bool
		reasonContains string
	}{
		{"no errors", Sample{1000, 0}, Sample{9000, 0}, false, ""},
		{"as many as the others", Sample{1000, 100}, Sample{9000, 900}, false, ""},
		{"within what is allowed", Sample{10000, 190}, Sample{9000, 0}, false, ""},
		{"more than is allowed, by chance", Sample{100, 4}, Sample{9000, 0}, false, ""},
		{"more than is allowed", Sample{10000, 250}, Sample{9000, 0}, true, "2.50% of 10000 requests failed"},
		{"far more", Sample{100, 50}, Sample{9000, 90}, true, "1.00% at the others"},
		{"too few to say", Sample{99, 99}, Sample{9000, 0}, false, ""},
		{"nothing known of the others", Sample{1000, 100}, Sample{}, true, "10.00%"},
	} {
		f := newFleet(t, Settings{Canary: true, Share: 0.5, For: time.Minute, Errors: 0.02})
		f.connect("gateway", "v1", 1, 2)
		f.Offer(f.now, "v1")
		f.now = f.now.Add(time.Minute)
		f.Tick(f.now)
		f.Offer(f.now, "v2")
		tried := f.have("v2", 1, 2)[0]
		f.Ack(f.now, tried, "v2")
		f.Load(f.now, 3-tried, c.others)
		back := f.Load(f.now, tried, c.tried)
		if back != c.back {
			t.Errorf("%s: taken back %t, want %t", c.name, back, c.back)
		}
		if back && !strings.Contains(f.State().Rejected.Reason, c.reasonContains) {
			t.Errorf("%s: %s", c.name, f.State().Rejected.Reason)
		}
		if back && f.Target(tried) != "v1" {
			t.Errorf("%s: the node does not return", c.name)
		}
	}
}

// After a restart nothing is known: nodes keep the version that they come with, whatever it is.
func TestRestart(t *testing.T) {
	f := newFleet(t, Settings{Canary: true, Share: 0.5, For: time.Minute, Errors: 0.02})
	f.Offer(f.now, "v2")
	f.connect("gateway", "?", 1, 2, 3, 4) // of an earlier file
	tried := f.have("v2", 1, 2, 3, 4)
	if len(tried) != 1 {
		t.Fatalf("%d nodes are tried, want 1", len(tried))
	}
	if !f.Nack(f.now, tried[0], "v2", "no") {
		t.Error("not taken back")
	}
	if n := len(f.have("", 1, 2, 3, 4)); n != 4 {
		t.Errorf("%d nodes keep what they have, want all", n)
	}
	f.connect("gateway", "", 5) // has nothing to lose
	if f.Target(5) != "v2" {
		t.Errorf("a new node has %q", f.Target(5))
	}
	f.Offer(f.now, "v3")
	f.settle("v3", 1, 2, 3, 4, 5)
	if f.Target(5) != "v3" {
		t.Errorf("a node without a version waits for the canary's end, with %q", f.Target(5))
	}
}

// A candidate that nodes run, and that had no time to become stable, is what those nodes return to;
// others keep what they have.
func TestReturnToTheCandidateBefore(t *testing.T) {
	f := newFleet(t, Settings{Canary: true, Share: 0.5, For: time.Hour, Errors: 0.02})
	f.Offer(f.now, "v1")
	f.connect("gateway", "v1", 1, 2)
	f.connect("gateway", "?", 3, 4)
	f.Offer(f.now, "v2")
	f.settle("v2", 1, 2, 3, 4)
	given := f.have("v2", 1, 2, 3, 4)
	if len(given) != 2 {
		t.Fatalf("%d nodes have it, want 2", len(given))
	}
	f.Nack(f.now, given[0], "v2", "no")
	for _, k := range []Key{1, 2, 3, 4} {
		want := ""
		if k <= 2 {
			want = "v1"
		}
		if got := f.Target(k); got != want {
			t.Errorf("node %d has %q, want %q", k, got, want)
		}
	}
}

// A candidate that no node had acknowledged as a whole when the next one came was not refused either:
// its nodes return to it, also those whose word comes late, and a node that has nothing is given it.
func TestReturnToACandidateThatWasNotAcknowledged(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, has := range []string{"", "?"} {
			f := newFleet(t, Settings{})
			f.Offer(f.now, "v1")
			f.connect("envoy", has, 1)
			f.Offer(f.now, "v2")
			if late {
				f.Ack(f.now, 1, "v1")
			}
			if !f.Nack(f.now, 1, "v2", "no") {
				t.Error("not taken back")
			}
			f.connect("envoy", "", 2)
			for _, k := range []Key{1, 2} {
				if got := f.Target(k); got != "v1" {
					t.Errorf("late %t, came with %q: node %d has %q, want v1", late, has, k, got)
				}
			}
			f.Offer(f.now, "v3")
			f.settle("v3", 1, 2)
			f.expect(State{Phase: Stable, Stable: "v3"})
		}
	}
}

// A node that comes with the candidate has proved it, and is not taken it away from.
func TestNodeComesWithTheCandidate(t *testing.T) {
	f := newFleet(t, Settings{})
	f.Offer(f.now, "v1")
	f.connect("gateway", "v1", 1)
	f.expect(State{Phase: Stable, Stable: "v1"})
	f.connect("gateway", "v0", 2)
	if f.Target(2) != "v1" {
		t.Errorf("a node with an old version has %q", f.Target(2))
	}
	if f.Nack(f.now, 2, "v1", "no") {
		t.Error("a late node's NACK of the stable version changes something")
	}
}

// Random interleavings: the counts stay what a count of the nodes gives, and a target is always a
// version that may be had.
func TestCountsStayRight(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		f := newFleet(t, Settings{Canary: seed%2 == 0, Share: 0.3, For: 20 * time.Second, Errors: 0.02})
		var live []Key
		next := Key(1)
		version := func() string { return fmt.Sprintf("v%d", random.IntN(4)) }
		for range 300 {
			f.now = f.now.Add(time.Duration(random.IntN(4000)) * time.Millisecond)
			switch op := random.IntN(10); {
			case op < 3 || len(live) == 0:
				has := []string{"", "?", version()}[random.IntN(3)]
				f.connect([]string{"gateway", "envoy"}[random.IntN(2)], has, next)
				live = append(live, next)
				next++
			case op == 3:
				i := random.IntN(len(live))
				f.Disconnect(live[i])
				live = append(live[:i], live[i+1:]...)
			case op == 4:
				f.Offer(f.now, version())
			case op == 5:
				f.Nack(f.now, live[random.IntN(len(live))], version(), "no")
			case op == 6:
				f.Tick(f.now)
			case op == 7:
				f.Configure(f.now, Settings{Canary: random.IntN(2) == 0, Share: 0.5, For: time.Second, Errors: 0.01})
			default:
				k := live[random.IntN(len(live))]
				if v := f.Target(k); v != "" {
					f.Ack(f.now, k, v)
				}
			}
			f.check(seed)
		}
	}
}

func (f *fleet) check(seed uint64) {
	f.t.Helper()
	want := map[*kind]kind{}
	for key, n := range f.nodes {
		k := want[n.kind]
		k.total++
		if n.given && !n.silent {
			k.active++
		}
		if n.silent {
			k.silent++
		}
		if n.acked {
			k.acked++
		}
		if n.acked && (!n.given || n.silent) || n.silent && !n.given || n.given && f.candidate == "" {
			f.t.Fatalf("seed %d: node %+v", seed, n)
		}
		want[n.kind] = k
		v := f.Target(key)
		known := []string{"", f.stable, f.candidate, f.previous}
		if !slices.Contains(known, v) && (f.rejected == nil || v != f.rejected.Version) {
			f.t.Fatalf("seed %d: target %q", seed, v)
		}
	}
	for k, w := range want {
		w.everGood = k.everGood
		if *k != w {
			f.t.Fatalf("seed %d: counts %+v, want %+v", seed, *k, w)
		}
	}
}

package idempotency

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

var start = time.Unix(1_790_000_000, 0).UTC()

func at(d time.Duration) time.Time { return start.Add(d) }

func claimOf(token uint64) ClaimRequest {
	return ClaimRequest{
		ID: "id", Token: token, Fingerprint: [32]byte{1}, Route: "r", Principal: "p", ClientKey: "k",
		Lease: 10 * time.Second, Cap: time.Minute, TTL: time.Hour,
	}
}

func claimed(t *testing.T, c ClaimRequest, now time.Time) *Record {
	t.Helper()
	rec, ok := Claim(nil, c, now)
	if !ok {
		t.Fatal("a free key was not claimed")
	}
	return &rec
}

func step(t *testing.T, rec *Record, token uint64, ch Change, now time.Time) *Record {
	t.Helper()
	next, remove, err := Apply(rec, token, ch, now)
	if err != nil || remove {
		t.Fatalf("op %d: remove %v, %v", ch.Op, remove, err)
	}
	return &next
}

func TestClaim(t *testing.T) {
	sent := claimOf(1)
	notDispatched := claimOf(1)
	notDispatched.NotDispatched = true
	inFlight, free := claimed(t, sent, start), claimed(t, notDispatched, start)
	answered := step(t, inFlight, 1, Change{Op: Finish, Response: []byte("201")}, at(time.Second))
	unknown := step(t, inFlight, 1, Change{Op: MarkUnknown}, at(time.Second))
	delegated := step(t, inFlight, 1, Change{Op: Delegate}, at(time.Second))
	retry := claimOf(2)
	retry.Retry = true
	other := retry
	other.Fingerprint = [32]byte{2}

	for _, c := range []struct {
		name    string
		rec     *Record
		c       ClaimRequest
		now     time.Time
		claimed bool
		state   State
		attempt int
	}{
		{"free key", nil, claimOf(2), start, true, InFlight, 1},
		{"runs", inFlight, retry, at(time.Second), false, InFlight, 1},
		{"runs, other request", inFlight, other, at(time.Second), false, InFlight, 1},
		{"lease ends at that moment", inFlight, claimOf(2), at(10 * time.Second), false, Unknown, 1},
		{"lapsed, may be tried again", inFlight, retry, at(10 * time.Second), true, InFlight, 2},
		{"lapsed, other request", inFlight, other, at(10 * time.Second), false, Unknown, 1},
		{"lapsed, nothing sent", free, claimOf(2), at(10 * time.Second), true, InFlight, 1},
		{"lapsed, nothing sent, other request", free, other, at(10 * time.Second), true, InFlight, 1},
		{"nothing sent, lease runs", free, retry, at(9 * time.Second), false, InFlight, 1},
		{"unknown", unknown, claimOf(2), at(time.Minute), false, Unknown, 1},
		{"unknown, may be tried again", unknown, retry, at(time.Minute), true, InFlight, 2},
		{"delegated outlives the lease", delegated, retry, at(time.Minute), false, Delegated, 1},
		{"answered", answered, retry, at(time.Minute), false, Answered, 1},
		{"answered, other request", answered, other, at(time.Minute), false, Answered, 1},
		{"expired", answered, other, at(time.Hour + time.Second), true, InFlight, 1},
	} {
		got, ok := Claim(c.rec, c.c, c.now)
		if ok != c.claimed || got.State != c.state || got.Attempt != c.attempt {
			t.Errorf("%s: claimed %v, state %v, attempt %d; want %v, %v, %d", c.name, ok, got.State, got.Attempt,
				c.claimed, c.state, c.attempt)
		}
		if ok && got.Attempt > 1 && !got.Created.Equal(start) {
			t.Errorf("%s: created %v, want that of the first attempt", c.name, got.Created)
		}
	}
}

// What may have been executed was executed by the first attempt's service: all others go there.
func TestFurtherAttemptsStayWithTheFirstService(t *testing.T) {
	first, second := claimOf(1), claimOf(2)
	first.Service, second.Service, second.Route, second.Retry = "order-canary", "order", "renamed", true
	inFlight := claimed(t, first, start)
	unknown := step(t, inFlight, 1, Change{Op: MarkUnknown}, at(time.Second))
	for name, rec := range map[string]*Record{"unknown": unknown, "lapsed": inFlight} {
		next, ok := Claim(rec, second, at(20*time.Second))
		if !ok || next.Service != "order-canary" || next.Route != "r" || next.Attempt != 2 {
			t.Errorf("%s: the second attempt is %+v, %v", name, next, ok)
		}
		given := step(t, &next, 2, Change{Op: Free}, at(21*time.Second)) // the third one too
		if next, ok = Claim(given, second, at(22*time.Second)); !ok || next.Service != "order-canary" {
			t.Errorf("%s: the third attempt is %+v, %v", name, next, ok)
		}
	}
	if next, ok := Claim(unknown, second, at(3*time.Hour)); !ok || next.Service != "order" || next.Attempt != 1 {
		t.Errorf("an expired record keeps its service: %+v, %v", next, ok)
	}
}

func TestApply(t *testing.T) {
	first := Change{Op: Finish, Response: []byte("201")}
	inFlight := claimed(t, claimOf(1), start)
	answered := step(t, inFlight, 1, first, at(time.Second))
	unknown := step(t, inFlight, 1, Change{Op: MarkUnknown}, at(time.Second))
	delegated := step(t, inFlight, 1, Change{Op: Delegate}, at(time.Second))
	renew := Change{Op: Renew, Lease: 30 * time.Second}
	unsent := *inFlight
	unsent.NotDispatched = true

	for _, c := range []struct {
		name   string
		rec    *Record
		token  uint64
		ch     Change
		now    time.Time
		remove bool
		lost   bool
		check  func(next Record) bool
	}{
		{"renew", inFlight, 1, renew, at(5 * time.Second), false, false,
			func(n Record) bool { return n.LeaseUntil.Equal(at(35 * time.Second)) }},
		{"renew up to the cap", inFlight, 1, renew, at(50 * time.Second), false, false,
			func(n Record) bool { return n.LeaseUntil.Equal(at(time.Minute)) }},
		{"renew at the cap", inFlight, 1, renew, at(time.Minute), false, true, nil},
		{"renew, delegated", delegated, 1, renew, at(time.Minute), false, false,
			func(n Record) bool { return n.Expires.Equal(at(time.Minute + time.Hour)) }},
		{"renew, unknown", unknown, 1, renew, at(2 * time.Second), false, true, nil},
		{"finish", inFlight, 1, first, at(time.Second), false, false, func(n Record) bool {
			return n.State == Answered && string(n.Response) == "201" && n.Expires.Equal(at(time.Hour+time.Second))
		}},
		{"finish after the lease", inFlight, 1, first, at(time.Minute), false, false,
			func(n Record) bool { return n.State == Answered }},
		{"finish an unknown one", unknown, 1, first, at(time.Minute), false, false,
			func(n Record) bool { return n.State == Answered }},
		{"finish a delegated one", delegated, 1, first, at(time.Minute), false, false,
			func(n Record) bool { return n.State == Answered }},
		{"finish again keeps the first response", answered, 1, Change{Op: Finish, Response: []byte("500")},
			at(time.Minute), false, false,
			func(n Record) bool { return string(n.Response) == "201" && n.Expires.Equal(answered.Expires) }},
		{"finish with an old token", inFlight, 2, first, at(time.Second), false, true, nil},
		{"finish without a record", nil, 1, first, at(time.Second), false, true, nil},
		{"finish an expired one", inFlight, 1, first, at(2 * time.Hour), false, true, nil},
		{"free", inFlight, 1, Change{Op: Free}, at(time.Second), true, false, nil},
		{"free an answered one", answered, 1, Change{Op: Free}, at(time.Second), false, true, nil},
		{"free a delegated one", delegated, 1, Change{Op: Free}, at(time.Second), true, false, nil},
		{"mark unknown", inFlight, 1, Change{Op: MarkUnknown}, at(time.Second), false, false,
			func(n Record) bool { return n.State == Unknown }},
		{"mark unknown a delegated one", delegated, 1, Change{Op: MarkUnknown}, at(time.Second), false, true, nil},
		{"mark unknown an answered one", answered, 1, Change{Op: MarkUnknown}, at(time.Second), false, true, nil},
		{"delegate", inFlight, 1, Change{Op: Delegate}, at(time.Second), false, false,
			func(n Record) bool { return n.State == Delegated && !n.NotDispatched }},
		{"delegate an unknown one", unknown, 1, Change{Op: Delegate}, at(time.Second), false, true, nil},
		{"renew an unsent one", &unsent, 1, renew, at(9 * time.Second), false, false, nil},
		{"delegate an unsent one", &unsent, 1, Change{Op: Delegate}, at(9 * time.Second), false, false, nil},
		{"renew an unsent one after the lease", &unsent, 1, renew, at(10 * time.Second), false, true, nil},
		{"delegate it then", &unsent, 1, Change{Op: Delegate}, at(10 * time.Second), false, true, nil},
		{"free it then", &unsent, 1, Change{Op: Free}, at(10 * time.Second), false, true, nil},
	} {
		next, remove, err := Apply(c.rec, c.token, c.ch, c.now)
		if remove != c.remove || errors.Is(err, ErrLost) != c.lost || (err != nil) != c.lost {
			t.Errorf("%s: remove %v, %v", c.name, remove, err)
			continue
		}
		if c.check != nil && !c.check(next) {
			t.Errorf("%s: %+v", c.name, next)
		}
	}
}

// TestLateOwner: the first owner's record was taken over by token 2, in each of the states that it
// may be in.
func TestLateOwner(t *testing.T) {
	first := claimed(t, claimOf(1), start)
	retry := claimOf(2)
	retry.Retry = true
	second, ok := Claim(first, retry, at(20*time.Second)) // its lease is over at 30 s
	if !ok || second.Attempt != 2 {
		t.Fatalf("taken over: %v, %+v", ok, second)
	}
	freed := step(t, &second, 2, Change{Op: Free}, at(21*time.Second))
	unknown := step(t, &second, 2, Change{Op: MarkUnknown}, at(21*time.Second))
	answered := step(t, &second, 2, Change{Op: Finish, Response: []byte("200")}, at(21*time.Second))
	delegated := step(t, &second, 2, Change{Op: Delegate}, at(21*time.Second))
	if freed.State != Unknown || freed.Attempt != 1 {
		t.Errorf("a later attempt that was not executed leaves %+v", freed)
	}
	response := Change{Op: Finish, Response: []byte("201"), Created: start}
	for _, c := range []struct {
		name string
		rec  *Record
		ch   Change
		now  time.Time
		lost bool
	}{
		{"the other one may be at it", &second, response, at(29 * time.Second), true},
		{"the other one is late too", &second, response, at(30 * time.Second), false},
		{"the other one was not executed", freed, response, at(22 * time.Second), false},
		{"nor does the other one know", unknown, response, at(22 * time.Second), false},
		{"the other one has answered", answered, response, at(22 * time.Second), true},
		{"the coordinator has it", delegated, response, at(22 * time.Second), true},
		{"expired", freed, response, at(2 * time.Hour), true},
		{"a later record", freed, Change{Op: Finish, Response: []byte("201"), Created: at(time.Second)},
			at(22 * time.Second), true},
		{"it does not say which record", freed, Change{Op: Finish, Response: []byte("201")}, at(22 * time.Second),
			true},
		{"free", freed, Change{Op: Free, Created: start}, at(22 * time.Second), true},
		{"mark unknown", freed, Change{Op: MarkUnknown, Created: start}, at(22 * time.Second), true},
		{"renew", freed, Change{Op: Renew, Lease: time.Minute, Created: start}, at(22 * time.Second), true},
	} {
		next, remove, err := Apply(c.rec, 1, c.ch, c.now)
		if remove || errors.Is(err, ErrLost) != c.lost || (err != nil) != c.lost {
			t.Errorf("%s: remove %v, %v", c.name, remove, err)
			continue
		}
		if c.lost {
			continue
		}
		if next.State != Answered || next.Token != 1 || string(next.Response) != "201" ||
			!next.Expires.Equal(c.now.Add(time.Hour)) {
			t.Errorf("%s: %+v", c.name, next)
		}
		if _, _, err := Apply(&next, 2, Change{Op: Finish, Response: []byte("200"), Created: start},
			c.now); !errors.Is(err, ErrLost) {
			t.Errorf("%s: the other one overwrites it: %v", c.name, err)
		}
		again, _, err := Apply(&next, 1, Change{Op: Finish, Response: []byte("500"), Created: start}, c.now)
		if err != nil || string(again.Response) != "201" {
			t.Errorf("%s: again: %q, %v", c.name, again.Response, err)
		}
	}
}

// TestTakeOverWithNothingSent: an attempt of which nothing was sent is free when it lapses; the
// ones before it are not.
func TestTakeOverWithNothingSent(t *testing.T) {
	unknown := step(t, claimed(t, claimOf(1), start), 1, Change{Op: MarkUnknown}, at(time.Second))
	c := claimOf(2)
	c.Retry, c.NotDispatched = true, true
	second, ok := Claim(unknown, c, at(2*time.Second))
	if !ok || second.NotDispatched {
		t.Fatalf("taken over: %v, %+v", ok, second)
	}
	if seen, there := View(&second, at(20*time.Second)); !there || seen.State != Unknown {
		t.Errorf("lapsed it reads as %+v, %v", seen, there)
	}
}

func TestView(t *testing.T) {
	sent := claimed(t, claimOf(1), start)
	c := claimOf(1)
	c.NotDispatched = true
	notDispatched := claimed(t, c, start)
	for _, tc := range []struct {
		name  string
		rec   *Record
		now   time.Time
		there bool
		state State
	}{
		{"none", nil, start, false, 0},
		{"runs", sent, at(9 * time.Second), true, InFlight},
		{"lapsed", sent, at(10 * time.Second), true, Unknown},
		{"nothing sent", notDispatched, at(9 * time.Second), true, InFlight},
		{"lapsed, nothing sent", notDispatched, at(10 * time.Second), false, 0},
		{"expired", sent, at(time.Hour + time.Minute), false, 0},
	} {
		before := Record{}
		if tc.rec != nil {
			before = *tc.rec
		}
		got, there := View(tc.rec, tc.now)
		if there != tc.there || got.State != tc.state {
			t.Errorf("%s: %v, state %v", tc.name, there, got.State)
		}
		if tc.rec != nil && !reflect.DeepEqual(*tc.rec, before) {
			t.Errorf("%s: View changed the record", tc.name)
		}
	}
}

func TestResolve(t *testing.T) {
	rec := claimed(t, claimOf(1), start)
	if _, _, err := Resolve(rec, nil, false, 9, at(time.Second)); !errors.Is(err, ErrBusy) {
		t.Errorf("resolved while its holder runs: %v", err)
	}
	if _, remove, err := Resolve(rec, nil, true, 9, at(time.Second)); !remove || err != nil {
		t.Error("resolved as free, and not removed")
	}
	next, remove, err := Resolve(rec, []byte("x"), true, 9, at(time.Second))
	if err != nil || remove || next.State != Answered || next.Token != 9 ||
		!next.Expires.Equal(at(time.Hour+time.Second)) {
		t.Errorf("resolved: %+v, remove %v", next, remove)
	}
	if _, _, err := Apply(&next, 1, Change{Op: Finish, Response: []byte("x")}, at(2*time.Second)); !errors.Is(err,
		ErrLost) {
		t.Errorf("the fenced owner finished: %v", err)
	}
}

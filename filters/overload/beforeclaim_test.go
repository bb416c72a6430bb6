package overload

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
)

// The tests that count run under a fake clock: how many requests are expected depends on how long they take.

// keys is what a process knows of them.
type keys bool

func (k keys) Known(*filters.Exchange) bool { return bool(k) }

// full is a service of one call that has it, and has shed somebody.
func full(t *testing.T) (s *Service, free func()) {
	t.Helper()
	s = fixed(1, 0)
	f := filterOf(s)
	x, slot := exchange(t.Context()), new(filters.Slot)
	if r := f.Request(x, slot); r != nil {
		t.Fatal(r.Reason)
	}
	if f.Request(exchange(t.Context()), new(filters.Slot)) == nil {
		t.Fatal("the second call is not shed")
	}
	return s, func() { f.Done(x, slot, filters.Refused) }
}

func keyed(t *testing.T, key string) *filters.Exchange {
	x := exchange(t.Context())
	x.Principal, x.Logical.Key = "buyer of "+key, key
	return x
}

// TestRefusesBeforeTheClaim: a request that would be shed is refused before its key is claimed, counted as any other,
// and told that nothing was sent for this one and no more.
func TestRefusesBeforeTheClaim(t *testing.T) { synctest.Test(t, refusesBeforeTheClaim) }

func refusesBeforeTheClaim(t *testing.T) {
	s, free := full(t)
	f, before := filterOf(s), s.Limiter.Snapshot().Shed[Normal][QueueFull]
	x, slot := keyed(t, "k"), new(filters.Slot)
	r := f.BeforeClaim(x, slot, keys(false))
	if r == nil || r.Status != 503 || r.Reason != filters.Overloaded || r.Header.Get("Retry-After") == "" {
		t.Fatalf("refused with %+v", r)
	}
	body := string(r.Body)
	for _, want := range []string{"Nothing was sent for this request.", "same key", `"service":"order"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if strings.Contains(body, "Nothing was sent to") || *slot != (filters.Slot{}) {
		t.Errorf("%s, slot %+v", body, slot)
	}
	if n := s.Limiter.Snapshot().Shed[Normal][QueueFull]; n != before+1 {
		t.Errorf("%d are counted as shed, want %d", n, before+1)
	}
	if !f.demoted(x, f.now(), s.process.hash(s.salt, x.Principal)) {
		t.Error("who was shed before its claim is not remembered")
	}
	free()
	if r := f.BeforeClaim(x, slot, keys(false)); r != nil || slot.N == 0 {
		t.Errorf("with room: %+v, slot %+v", r, slot)
	}
}

// TestLetsOnToTheClaim: what is critical, what the process knows, what is not a client's request, and what would be
// followed by a fallback, goes on to its claim as it did, and nothing is expected of it.
func TestLetsOnToTheClaim(t *testing.T) { synctest.Test(t, letsOnToTheClaim) }

func letsOnToTheClaim(t *testing.T) {
	s, _ := full(t)
	for name, c := range map[string]struct {
		options Options
		known   bool
		call    filters.Call
	}{
		"critical":   {options: Options{Class: Critical}},
		"known":      {options: Options{Class: Low}, known: true},
		"an undo":    {options: Options{Class: Normal}, call: filters.UndoCall},
		"a step":     {options: Options{Class: Normal}, call: filters.DoCall},
		"a probe":    {options: Options{Class: Normal}, call: filters.ProbeCall},
		"a fallback": {options: Options{Class: Low, ClaimFirst: true}},
	} {
		c.options.Service = s
		for what, f := range map[string]filters.KeyGuard{
			"queue": NewFilter(c.options), "door": NewDoor([]*Service{s}, c.options),
		} {
			x, slot := keyed(t, "k"), new(filters.Slot)
			x.Call = c.call
			if r := f.BeforeClaim(x, slot, keys(c.known)); r != nil || *slot != (filters.Slot{}) {
				t.Errorf("%s at the %s: %+v, slot %+v", name, what, r, slot)
			}
		}
	}
}

// TestExpectedRequestsAreSettled: what is expected comes to Request or is withdrawn, also while the process sheds.
func TestExpectedRequestsAreSettled(t *testing.T) { synctest.Test(t, expectedRequestsAreSettled) }

func expectedRequestsAreSettled(t *testing.T) {
	s, free := full(t)
	free()
	f := filterOf(s)
	next := func(when string) (*filters.Exchange, *filters.Slot) {
		t.Helper()
		x, slot := keyed(t, when), new(filters.Slot)
		if r := f.BeforeClaim(x, slot, keys(false)); r != nil {
			t.Fatalf("%s: nobody is expected, and it is refused", when)
		}
		if r := f.BeforeClaim(keyed(t, "other"), new(filters.Slot), keys(false)); r == nil {
			t.Fatalf("%s: two are let on for one place", when)
		}
		return x, slot
	}
	_, slot := next("withdrawn")
	f.Withdraw(nil, slot)
	x, slot := next("passes")
	if r := f.Request(x, slot); r != nil {
		t.Fatal(r.Reason)
	}
	f.Done(x, slot, filters.Completed)
	x, slot = next("shed for the process")
	s.process.Guard.level.Store(int32(ShedNormal))
	if r := f.Request(x, slot); r == nil {
		t.Fatal("the process does not shed")
	}
	if r := f.BeforeClaim(x, slot, keys(false)); r == nil || !strings.Contains(string(r.Body), nothingSentNow) {
		t.Errorf("the process sheds, and before the claim: %+v", r)
	}
	s.process.Guard.level.Store(int32(ShedNone))
	next("at the end")
}

// TestDoorAsksEveryService: a transaction is refused before its claim by the service that has no room, and nothing is
// expected at the others then.
func TestDoorAsksEveryService(t *testing.T) { synctest.Test(t, doorAsksEveryService) }

func doorAsksEveryService(t *testing.T) {
	roomy, freeRoomy := full(t)
	freeRoomy()
	fullUp, free := full(t)
	for { // until its door is shut
		if _, ok := fullUp.Limiter.Reserve(time.Now(), Request{Class: Normal}); !ok {
			break
		}
	}
	d := NewDoor([]*Service{roomy, fullUp, fixed(1, 0)}, Options{Class: Normal})
	slot := new(filters.Slot)
	x := keyed(t, "k")
	r := d.BeforeClaim(x, slot, keys(false))
	if r == nil || r.Reason != filters.Overloaded || !strings.Contains(string(r.Body), nothingSentNow) {
		t.Fatalf("refused with %+v", r)
	}
	d.Withdraw(x, slot) // as the chain does
	if n := roomy.Limiter.expected.doors + fullUp.Limiter.expected.doors; n != 0 || *slot != (filters.Slot{}) {
		t.Errorf("%d are expected after a refusal, slot %+v", n, slot)
	}
	free()
	other := NewDoor([]*Service{roomy}, Options{Class: Normal})
	if r := other.BeforeClaim(x, slot, keys(false)); r != nil || roomy.Limiter.expected.doors != 1 {
		t.Errorf("%+v, %d expected", r, roomy.Limiter.expected.doors)
	}
	if r := other.Request(x, slot); r != nil || roomy.Limiter.expected.doors != 0 {
		t.Errorf("at the door: %+v, %d expected", r, roomy.Limiter.expected.doors)
	}
}

func TestDoorConforms(t *testing.T) {
	filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
		return NewDoor([]*Service{fixed(1, 0)}, Options{Class: Normal}), func(*filters.Exchange) {}
	})
}

// TestBeforeClaimCosts: who is let on to its claim costs no allocation.
func TestBeforeClaimCosts(t *testing.T) {
	s, free := full(t)
	free()
	quiet := fixed(1, 0)
	for name, f := range map[string]filters.KeyGuard{
		"busy": filterOf(s), "quiet": filterOf(quiet),
		"doors": NewDoor([]*Service{s, quiet}, Options{Class: Normal}),
	} {
		x, slot := keyed(t, "k"), new(filters.Slot)
		if n := testing.AllocsPerRun(200, func() {
			if f.BeforeClaim(x, slot, keys(false)) != nil {
				t.Fatal("refused")
			}
			if slot.N != 0 {
				f.Withdraw(x, slot)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

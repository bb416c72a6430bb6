package filters

import (
	"strings"
	"testing"
)

// leads is a filter that leads exchanges to a service.
type leads struct {
	script
	to string
}

func (f *leads) Request(x *Exchange, s *Slot) *Reply {
	if !x.Lead(f.to) {
		return Refuse(UpstreamUnreachable, Problem{})
	}
	return f.script.Request(x, s)
}

// claimsAndLeads claims a key and leads the exchange to the service of its record.
type claimsAndLeads struct {
	claims
	to string
}

func (f *claimsAndLeads) Request(x *Exchange, s *Slot) *Reply {
	if r := f.claims.Request(x, s); r != nil {
		return r
	}
	if !x.Lead(f.to) {
		return Refuse(UpstreamUnreachable, Problem{})
	}
	return nil
}

// TestEnds: an exchange goes through the filters of the service that it is led to, and of no other; what a guard of
// another one kept of it is withdrawn; Response and Done run in reverse order for just those that ran.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		fork        bool // a chain to one service has its filters as its own
		first, then string
		log, leads  string
		refused     bool
	}{
		"as chosen": {true, "a", "a", "a1.BeforeClaim claims.Request a1.kept a1.Request a2.Request | " +
			"a2.Done:completed a1.Done:completed claims.Done:completed choose.Done:completed", "a", false},
		"the record has another one": {true, "a", "b", "a1.BeforeClaim claims.Request a1.Withdraw b1.Request | " +
			"b1.Done:completed claims.Done:completed choose.Done:completed", "b", false},
		"the record has one from elsewhere": {true, "b", "old", "claims.Request old1.Request | " +
			"old1.Done:completed claims.Done:completed choose.Done:completed", "old", false},
		"one service, and it is that": {false, "a", "a", "a1.BeforeClaim claims.Request a1.kept a1.Request " +
			"a2.Request | a2.Done:completed a1.Done:completed claims.Done:completed choose.Done:completed", "a", false},
		"one service, and the record has one from elsewhere": {false, "a", "old", "a1.BeforeClaim claims.Request " +
			"a1.Withdraw old1.Request | old1.Done:completed claims.Done:completed choose.Done:completed", "old", false},
		"nobody knows it": {true, "a", "gone", "a1.BeforeClaim claims.Request a1.Withdraw | " +
			"claims.Done:completed choose.Done:completed", "a", true},
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			of := func(name string) script { return script{name: name, log: &log} }
			a1, a2, b1, old := &guards{script: of("a1"), keeps: true}, of("a2"), of("b1"), of("old1")
			claimer := &claimsAndLeads{claims: claims{script: of("claims")}, to: c.then}
			list := []Filter{&leads{of("choose"), c.first}, claimer}
			if !c.fork {
				list = append(list, a1, &a2)
			}
			chain, err := NewChain(func(_ *Exchange, filter string, v any, _ []byte) { t.Errorf("%s: %v", filter, v) },
				list...)
			if err != nil {
				t.Fatal(err)
			}
			end := func(service string, list ...Filter) *End {
				e, err := NewEnd(service, list...)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			chain.LeadTo("a", 2)
			if c.fork {
				chain.LeadTo("", 0)
				if err := chain.Fork(end("a", a1, &a2), end("b", &b1)); err != nil {
					t.Fatal(err)
				}
			}
			chain.Elsewhere(map[string]*End{"old": end("old", &old)})
			var x Exchange
			x.Begin(t.Context(), nil)
			reply, panicked := chain.Request(&x)
			if panicked || (reply != nil) != c.refused || x.LeadsTo() != c.leads {
				t.Errorf("reply %+v, panicked %v, leads to %q", reply, panicked, x.LeadsTo())
			}
			log = append(log, "|")
			chain.Response(&x)
			for i := len(log) - 1; log[i] != "|"; i-- { // in the order of Done, which has no reply in between
				log = log[:i]
			}
			chain.Done(&x, Completed)
			if got := strings.Join(log, " "); got != "choose.Request "+c.log {
				t.Errorf("steps\n%s\nwant\n%s", got, "choose.Request "+c.log)
			}
			x.Restart()
			if x.LeadsTo() != "" || x.Led() {
				t.Error("another chain begins with the service of the one before")
			}
		})
	}
}

func TestEndsHaveRoomInTheSlots(t *testing.T) {
	many := func(n int) (list []Filter) {
		for range n {
			list = append(list, &script{})
		}
		return list
	}
	if _, err := NewEnd("order", many(MaxFilters+1)...); err == nil {
		t.Error("more filters than there are slots")
	}
	end, err := NewEnd("order", many(MaxFilters)...)
	chain, err2 := NewChain(func(*Exchange, string, any, []byte) {}, many(1)...)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if chain.Fork(end) == nil {
		t.Error("more filters than there are slots, together")
	}
	chain.LeadTo("", 0)
	chain.Elsewhere(map[string]*End{"order": end})
	var x Exchange
	if x.Begin(t.Context(), nil); x.Lead("order") {
		t.Error("an exchange without a chain is led somewhere")
	}
	chain.Request(&x)
	if x.Lead("order") {
		t.Error("the exchange is led where it has no slots for the filters")
	}
}

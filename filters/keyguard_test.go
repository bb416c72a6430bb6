package filters

import (
	"slices"
	"strings"
	"testing"
)

// claims is a filter that claims keys, guards are filters that guard them.
type (
	claims struct {
		script
		guards []GuardOfKeys
		known  bool
		early  bool // it withdraws the request before its claim has come about
	}
	guards struct {
		script
		before *Reply
		keeps  bool
	}
)

func (f *claims) GuardKeys(all []GuardOfKeys) { f.guards = all }

func (f *claims) Known(*Exchange) bool { return f.known }

func (f *claims) Request(x *Exchange, s *Slot) *Reply {
	for _, g := range f.guards {
		if r := g.BeforeClaim(x, f); r != nil {
			return r
		}
	}
	if f.early {
		for _, g := range f.guards {
			g.Withdraw(x)
		}
	}
	return f.script.Request(x, s)
}

func (f *guards) BeforeClaim(x *Exchange, s *Slot, keys Keys) *Reply {
	f.step("BeforeClaim")
	if keys.Known(x) {
		return nil
	}
	if f.keeps && f.before == nil {
		s.N = 7
	}
	return f.before
}

func (f *guards) Withdraw(_ *Exchange, s *Slot) {
	if s.N != 7 {
		panic("nothing was kept")
	}
	f.step("Withdraw")
}

func (f *guards) Request(x *Exchange, s *Slot) *Reply {
	if s.N == 7 {
		f.step("kept")
	}
	*s = Slot{}
	return f.script.Request(x, s)
}

// TestKeyGuards: a claimer is told of the guards behind it, in their order, and of no others. What a guard kept of a
// request comes to its Request, or is withdrawn once, whatever ends the request before.
func TestKeyGuards(t *testing.T) {
	refusal := Refuse(Overloaded, Problem{})
	for name, c := range map[string]struct {
		change func(c *claims, first, second *guards, between *script)
		log    string
		status int
	}{
		"passes": {func(*claims, *guards, *guards, *script) {},
			"first.BeforeClaim second.BeforeClaim claims.Request first.kept first.Request between.Request " +
				"second.kept second.Request", 0},
		"known": {func(c *claims, _, _ *guards, _ *script) { c.known = true },
			"first.BeforeClaim second.BeforeClaim claims.Request first.Request between.Request second.Request", 0},
		"the second refuses before the claim": {func(_ *claims, _, s *guards, _ *script) { s.before = refusal },
			"first.BeforeClaim second.BeforeClaim first.Withdraw", 503},
		"the claim is refused": {func(c *claims, _, _ *guards, _ *script) { c.reply = refusal },
			"first.BeforeClaim second.BeforeClaim claims.Request first.Withdraw second.Withdraw", 503},
		"the claim panics": {func(c *claims, _, _ *guards, _ *script) { c.panicIn = "Request" },
			"first.BeforeClaim second.BeforeClaim claims.Request first.Withdraw second.Withdraw", 500},
		"a guard panics": {func(_ *claims, _, s *guards, _ *script) { s.panicIn = "BeforeClaim" },
			"first.BeforeClaim second.BeforeClaim first.Withdraw", 500},
		"a withdrawal panics": {
			func(c *claims, f, _ *guards, _ *script) { c.reply, f.panicIn = refusal, "Withdraw" },
			"first.BeforeClaim second.BeforeClaim claims.Request first.Withdraw second.Withdraw", 503},
		"the first refuses": {func(_ *claims, f, _ *guards, _ *script) { f.reply = refusal },
			"first.BeforeClaim second.BeforeClaim claims.Request first.kept first.Request second.Withdraw", 503},
		"one between refuses": {func(_ *claims, _, _ *guards, b *script) { b.reply = refusal },
			"first.BeforeClaim second.BeforeClaim claims.Request first.kept first.Request between.Request " +
				"second.Withdraw", 503},
		"the claimer withdraws": {func(c *claims, _, _ *guards, _ *script) { c.early = true },
			"first.BeforeClaim second.BeforeClaim first.Withdraw second.Withdraw claims.Request first.Request " +
				"between.Request second.Request", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			of := func(name string) script { return script{name: name, log: &log} }
			before := &guards{script: of("before")}
			first, second := &guards{script: of("first"), keeps: true}, &guards{script: of("second"), keeps: true}
			claimer, between := &claims{script: of("claims")}, of("between")
			c.change(claimer, first, second, &between)
			chain, err := NewChain(func(*Exchange, string, any, []byte) {}, before, claimer, first, &between, second)
			if err != nil {
				t.Fatal(err)
			}
			var x Exchange
			x.Begin(t.Context(), nil)
			reply, _ := chain.Request(&x)
			if (reply == nil) != (c.status == 0) || reply != nil && reply.Status != c.status {
				t.Errorf("reply %+v, want %d", reply, c.status)
			}
			if got := strings.Join(slices.DeleteFunc(log, func(s string) bool { return s == "before.Request" }),
				" "); got != c.log {
				t.Errorf("steps\n%s\nwant\n%s", got, c.log)
			}
			for i := range x.slots {
				if i >= x.ran && x.slots[i] != (Slot{}) {
					t.Errorf("slot %d of a filter whose Request was not called has %+v", i, x.slots[i])
				}
			}
		})
	}
}

package filters

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// script is a filter that writes down its phases and fails where it is told to.
type script struct {
	needs   Needs
	name    string
	log     *[]string
	reply   *Reply
	panicIn string
}

func (f *script) Name() string { return f.name }

func (f *script) Needs() Needs { return f.needs }

func (f *script) step(phase string) {
	*f.log = append(*f.log, f.name+"."+phase)
	if f.panicIn == phase {
		panic("script: " + phase)
	}
}

func (f *script) Request(_ *Exchange, s *Slot) *Reply {
	if *s != (Slot{}) {
		panic("slot is not empty")
	}
	s.Ref = f
	f.step("Request")
	return f.reply
}

func (f *script) Response(_ *Exchange, s *Slot) {
	if s.Ref != f {
		panic("somebody else's slot")
	}
	f.step("Response")
}

func (f *script) Done(_ *Exchange, s *Slot, o Outcome) {
	if s.Ref != f {
		panic("somebody else's slot")
	}
	f.step("Done")
	(*f.log)[len(*f.log)-1] += ":" + o.String()
}

// play runs a chain of three as an engine does and returns what happened.
func play(t *testing.T, change func(a, b, c *script)) (log, panics []string, x *Exchange) {
	t.Helper()
	a, b, c := &script{name: "a", log: &log}, &script{name: "b", log: &log}, &script{name: "c", log: &log}
	change(a, b, c)
	chain, err := NewChain(func(_ *Exchange, filter string, v any, stack []byte) {
		panics = append(panics, fmt.Sprint(filter, ": ", v))
		if !strings.Contains(string(stack), "chain_test.go") {
			t.Errorf("the stack does not show where it was:\n%s", stack)
		}
	}, a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	x = new(Exchange)
	x.Begin(context.Background(), nil)
	o := Completed
	reply, panicked := chain.Request(x)
	if (reply != nil && reply.Reason == InternalError) != panicked {
		t.Errorf("reply %v, panicked %v", reply, panicked)
	}
	switch {
	case panicked:
		o = Panicked
		x.SetReply(reply)
	case reply != nil:
		o = Refused
		x.SetReply(reply)
	default:
		x.Response.Status = 200
	}
	if chain.Response(x) {
		o = Panicked
	}
	chain.Done(x, o)
	chain.Done(x, Completed) // only the first counts
	return log, panics, x
}

func TestChainPhases(t *testing.T) {
	refusal := Refuse(RateLimited, Problem{})
	for _, c := range []struct {
		name   string
		change func(a, b, c *script)
		log    string
		panics string
		status int
	}{
		{"all pass", func(a, b, c *script) {},
			"a.Request b.Request c.Request c.Response b.Response a.Response c.Done:completed b.Done:completed " +
				"a.Done:completed", "", 200},
		{"the middle refuses", func(a, b, c *script) { b.reply = refusal },
			"a.Request b.Request a.Response b.Done:refused a.Done:refused", "", 429},
		{"the first refuses", func(a, b, c *script) { a.reply = refusal },
			"a.Request a.Done:refused", "", 429},
		{"panic in Request", func(a, b, c *script) { b.panicIn = "Request" },
			"a.Request b.Request a.Response b.Done:panicked a.Done:panicked", "b: script: Request", 500},
		{"panic in Response", func(a, b, c *script) { c.panicIn = "Response" },
			"a.Request b.Request c.Request c.Response b.Response a.Response c.Done:panicked b.Done:panicked " +
				"a.Done:panicked", "c: script: Response", 500},
		{"panic in two Responses", func(a, b, c *script) { a.panicIn, c.panicIn = "Response", "Response" },
			"a.Request b.Request c.Request c.Response b.Response a.Response c.Done:panicked b.Done:panicked " +
				"a.Done:panicked",
			"c: script: Response, a: script: Response", 500},
		{"panic in Done", func(a, b, c *script) { c.panicIn = "Done" },
			"a.Request b.Request c.Request c.Response b.Response a.Response c.Done b.Done:completed a.Done:completed",
			"c: script: Done", 200},
		{"panic after a refusal", func(a, b, c *script) { b.reply, a.panicIn = refusal, "Response" },
			"a.Request b.Request a.Response b.Done:panicked a.Done:panicked", "a: script: Response", 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, panics, x := play(t, c.change)
			if got := strings.Join(log, " "); got != c.log {
				t.Errorf("phases\n%s\nwant\n%s", got, c.log)
			}
			if got := strings.Join(panics, ", "); got != c.panics {
				t.Errorf("panics %q, want %q", got, c.panics)
			}
			if x.Response.Status != c.status {
				t.Errorf("status %d, want %d", x.Response.Status, c.status)
			}
			if c.status == 500 && (!x.Response.Local || x.Response.Reason != InternalError ||
				strings.Contains(string(x.Response.Body), "script")) {
				t.Errorf("the client is shown %+v", x.Response)
			}
		})
	}
}

func TestChainReusesAnExchange(t *testing.T) {
	var log []string
	a := &script{name: "a", log: &log}
	chain, err := NewChain(func(_ *Exchange, f string, v any, _ []byte) { t.Errorf("%s: %v", f, v) }, a)
	if err != nil {
		t.Fatal(err)
	}
	var x Exchange
	for range 3 {
		x.Begin(t.Context(), nil)
		if r, _ := chain.Request(&x); r != nil {
			t.Fatal(r)
		}
		chain.Done(&x, ClientGone)
	}
	chain.Response(&x) // after the end: nobody is called
	if want := strings.Repeat("a.Request a.Done:client-gone ", 3); strings.Join(log, " ")+" " != want {
		t.Errorf("phases %v, want %v", log, want)
	}
}

func TestChainLength(t *testing.T) {
	var log []string
	var list []Filter
	for i := range MaxFilters {
		list = append(list, &script{name: fmt.Sprint(i), log: &log})
	}
	onPanic := func(*Exchange, string, any, []byte) {}
	c, err := NewChain(onPanic, list...)
	if err != nil {
		t.Fatal(err)
	}
	if names := c.Names(); len(names) != MaxFilters || names[1] != "1" {
		t.Errorf("names %v", names)
	}
	if _, err := NewChain(onPanic, append(list, list[0])...); err == nil {
		t.Error("one filter too many was taken")
	}
	empty, err := NewChain(onPanic)
	if err != nil {
		t.Fatal(err)
	}
	var x Exchange
	if r, panicked := empty.Request(&x); r != nil || panicked || empty.Response(&x) {
		t.Error("an empty chain does not pass")
	}
	empty.Done(&x, Completed)
}

// pass is a filter that keeps something in its slot and allocates nothing.
type pass struct{ n int }

func (p *pass) Name() string                        { return "pass" }
func (p *pass) Needs() Needs                        { return Needs{} }
func (p *pass) Request(_ *Exchange, s *Slot) *Reply { s.Ref, s.N = p, 7; return nil }
func (p *pass) Response(*Exchange, *Slot)           {}
func (p *pass) Done(_ *Exchange, s *Slot, _ Outcome) {
	if s.N == 7 {
		p.n++
	}
}

func TestChainAllocatesNothing(t *testing.T) {
	p := new(pass)
	chain, err := NewChain(func(*Exchange, string, any, []byte) {}, slices.Repeat([]Filter{p}, 8)...)
	if err != nil {
		t.Fatal(err)
	}
	var x Exchange
	ctx := context.Background()
	x.Header.Add("Host", "shop.example")
	if n := testing.AllocsPerRun(1000, func() {
		x.Begin(ctx, nil)
		x.Header.Add("Host", "shop.example")
		chain.Request(&x)
		x.Response.Status = 200
		x.Response.Header.Add("Date", "today")
		chain.Response(&x)
		chain.Done(&x, Completed)
	}); n != 0 {
		t.Errorf("%v allocations an exchange", n)
	}
	if p.n == 0 {
		t.Error("Done was not called")
	}
}

func TestNeedsAddUp(t *testing.T) {
	c, err := NewChain(func(*Exchange, string, any, []byte) {},
		&script{name: "a", needs: Needs{ResponseBody: 10, Members: [][]string{{"a"}}}},
		&script{name: "b", needs: Needs{RequestBody: true, ResponseBody: 5, Members: [][]string{{"b", "c"}}}},
		&script{name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	want := Needs{RequestBody: true, ResponseBody: 10, Members: [][]string{{"a"}, {"b", "c"}}}
	if got := c.Needs(); !reflect.DeepEqual(got, want) {
		t.Errorf("the chain needs %+v, want %+v", got, want)
	}
}

package http1

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

// A head beyond the connection's own memory is drawn on the client's account, for as long as it is
// there; where there is no more it is refused.
func TestHeadsAreCounted(t *testing.T) {
	t.Parallel()
	b := budget.New(budget.Limits{InFlight: 100, Buffered: 64 << 10, Upstreams: 100, Portion: 64 << 10})
	s, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/panic" {
			panic("as the test wants it")
		}
		reply(r, 200, "done")
	}, func(o *Options) { o.Budget = b })
	used := func(n int64) func() bool { return func() bool { return b.Used(budget.Buffered) == n } }

	long := "GET /g HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 12<<10)
	p := dial(t, address)
	p.say(long)
	eventually(t, "the head is counted", func() bool { return b.Used(budget.Buffered) >= 12<<10 })
	held := b.Used(budget.Buffered)
	if held > 20<<10 {
		t.Errorf("%d bytes are counted for a head of 16 KiB at most", held)
	}
	p.say("\r\n\r\n")
	p.want(200, "done")
	eventually(t, "it is given back", used(0))
	p.say(get)
	p.want(200, "done")

	p.say(long)
	eventually(t, "the second head is counted", used(held))
	p.Close()
	eventually(t, "it is given back when the client leaves", used(0))

	p = dial(t, address)
	p.say(strings.Replace(long, "/g", "/panic", 1) + "\r\n\r\n")
	p.ends()
	eventually(t, "it is given back by a panic", used(0))

	if !b.Own().Acquire(budget.Buffered, 64<<10-1) {
		t.Fatal("nothing is used, and there is no room")
	}
	for range 3 {
		p = dial(t, address)
		p.say(get) // a head that fits the connection's own memory needs nothing
		p.want(200, "done")
		p.say(long)
		if resp, _ := p.readResponse("GET"); resp.StatusCode != 503 || !resp.Close {
			t.Errorf("a head for which there is no room is answered with %d, close: %v", resp.StatusCode, resp.Close)
		}
		p.CloseWrite()
		p.ends()
	}
	if b.Refused(budget.Buffered) == 0 {
		t.Error("no refusal is counted")
	}
	eventually(t, "the connections end", func() bool { return s.Open() == 0 })
}

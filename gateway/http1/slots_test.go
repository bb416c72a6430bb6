package http1

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// A newcomer gets the slot of a connection on which nothing is under way, whatever it waits for.
func TestWhatWaitsGivesWay(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]string{
		"nothing yet": "", "a part of a head": "GET / HT", "an empty line": "\r\n", "idle": get,
		"a part of the next head": get + "GET /",
		"a refused upload":        "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, address := serve(t, func(r *Request) {
				if r.Exchange.Path == "/refused" {
					reply(r, 403, "no")
					return
				}
				echo(r)
			}, func(o *Options) { o.Slots = NewSlots(3) })
			var old [3]*peer
			for i := range old {
				old[i] = dial(t, address)
				old[i].say(say)
				if strings.HasPrefix(say, get) {
					old[i].want(200, "GET /g ")
				}
				if strings.HasPrefix(say, "POST") {
					old[i].want(403, "no")
				}
				eventually(t, "it is accepted", func() bool { return s.Open() == i+1 })
				old[i].isRead(s)
			}
			for range 3 * len(old) {
				p := dial(t, address)
				p.say(get)
				p.want(200, "GET /g ")
			}
			for _, p := range old { // the end, or a reset
				if b, _ := io.ReadAll(p.r); len(b) > 0 {
					t.Errorf("one of those that gave way was sent %q", b)
				}
			}
			if s.Open() > 3 {
				t.Errorf("%d connections are open", s.Open())
			}
		})
	}
}

// A request that lies in the socket, or has just been read, is answered, whenever its connection is to
// give way.
func TestWhatHasSentARequestDoesNotGiveWay(t *testing.T) {
	t.Parallel()
	for name, sealed := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, address := serve(t, echo, func(o *Options) {
				if sealed {
					withTLS(o)
				}
			})
			connect := dial
			if sealed {
				connect = dialTLS
			}
			for range 100 { // each with a connection, which may give way behind the response
				p := connect(t, address)
				p.say(get)
				p.want(200, "GET /g ")
				p.say(get)
				for _, c := range s.all() {
					c.giveWay(c.waitsSince.Load())
				}
				p.want(200, "GET /g ")
				p.Close()
			}
		})
	}
}

// A request under way keeps its slot, and a newcomer waits for it.
func TestRequestsKeepTheirSlots(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/wait" {
			begun <- struct{}{}
			<-goOn
		}
		reply(r, 200, "done")
	}, func(o *Options) { o.Slots = NewSlots(2) })
	var busy [2]*peer
	for i := range busy {
		busy[i] = dial(t, address)
		busy[i].say("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
		<-begun
	}
	third := dial(t, address)
	third.say(get)
	s.Slots.giveWay() // as the newcomer has it
	if s.Open() != 2 {
		t.Errorf("%d connections are open", s.Open())
	}
	close(goOn)
	for _, p := range append(busy[:], third) {
		p.want(200, "done")
	}
}

// Connections of another server, TLS and HTTP/2 among them, give way as well.
func TestSlotsAreShared(t *testing.T) {
	t.Parallel()
	slots := NewSlots(1)
	slots.Cuts = &message.Cuts{}
	share := func(o *Options) { o.Slots = slots }
	_, one := serve(t, echo, share)
	_, two := serve(t, echo, func(o *Options) {
		share(o)
		withTLS(o)
	})
	for range 3 {
		plain := dial(t, one)
		plain.say(get)
		plain.want(200, "GET /g ")
		sealed := dialTLS(t, two)
		sealed.say(get)
		sealed.want(200, "GET /g ")
		plain.ends()
		silent, err := net.Dial("tcp", two) // begins no handshake
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close() // not before: it is to give way, and the collector closes what nobody has
	}
	if _, n := slots.Cuts.Counts(); n < 6 { // the last newcomer may wait still
		t.Errorf("%d connections gave way by the count, want 6 or more", n)
	}
}

// engine is what a connection was handed over to.
type engine struct {
	nc    net.Conn
	since atomic.Int64
	asked atomic.Int64
}

func (e *engine) IdleSince() int64 { return e.since.Load() }

func (e *engine) GiveWay(since int64) bool {
	e.asked.Add(1)
	if e.since.Load() != since {
		return false
	}
	e.nc.Close()
	return true
}

func TestConnectionsHandedOverGiveWay(t *testing.T) {
	t.Parallel()
	engines := make(chan *engine, 1)
	_, address := serve(t, echo, func(o *Options) {
		o.Slots = NewSlots(1)
		o.HTTP2 = func(nc net.Conn) {
			e := &engine{nc: nc}
			nc.(*message.Conn).SetWaiting(e)
			engines <- e
		}
	})
	begins := dial(t, address)
	begins.say(message.HTTP2Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	e := <-engines
	p := dial(t, address)
	p.say(get)
	e.since.Store(1)
	p.want(200, "GET /g ")
	begins.ends()
	if e.asked.Load() == 0 {
		t.Error("it was not asked")
	}
}

// The client with most connections that wait gives first, its oldest before the others.
func TestOrderOfGivingWay(t *testing.T) {
	t.Parallel()
	at := func(client string, since int64) candidate {
		return candidate{client: budget.ClientOf(netip.MustParseAddr(client)), since: since}
	}
	list := []candidate{
		at("192.0.2.1", 1), // the oldest, of a client with one
		at("192.0.2.2", 10), at("192.0.2.2", 11), at("192.0.2.2", 12),
		at("2001:db8::1", 20), at("2001:db8::ffff:2", 21), // one network
	}
	want := []int64{10, 11, 20, 1, 12, 21}
	for range 20 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i := range list {
			list[i].rank = 0
		}
		order(list)
		var got []int64
		for _, c := range slices.Backward(list) {
			got = append(got, c.since)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("they give way in the order %v, want %v", got, want)
		}
	}
}

// Those that linger give way before all others, and of those that have sent no head and those that
// idle the more.
func TestKindsThatGiveWay(t *testing.T) {
	t.Parallel()
	list := func(n int) (list []candidate) {
		for i := range n {
			list = append(list, candidate{since: int64(n - i)})
		}
		return list
	}
	for _, c := range []struct {
		lingering, heading, idle int
		want                     string
	}{
		{0, 0, 0, ""},
		{2, 1, 5, "lliih"}, // each idle one that gives way is replaced by one without a head
		{0, 0, 3, "ii"},    // then those without a head are more, and none is known of
		{0, 3, 0, "hhh"}, {0, 3, 3, "hhh"}, {0, 5, 2, "hhhhh"},
	} {
		s := NewSlots(1)
		s.found = waiting{at: time.Now(), lingering: list(c.lingering), heading: list(c.heading), idle: list(c.idle),
			headings: c.heading, idles: c.idle}
		got := ""
		for {
			before := s.found
			if _, ok := s.next(); !ok {
				break
			}
			switch {
			case len(s.found.lingering) < len(before.lingering):
				got += "l"
			case len(s.found.heading) < len(before.heading):
				got += "h"
			default:
				got += "i"
			}
		}
		if got != c.want {
			t.Errorf("%+v: they give way as %q, want %q", c, got, c.want)
		}
	}
}

// What has given way and is not gone yet counts for the newcomer in its place: else a busy machine, on which it takes
// long to close them, ends the idle connections of others.
func TestWhatGoesCountsForANewcomer(t *testing.T) {
	t.Parallel()
	slots := NewSlots(20)
	s, _ := serve(t, echo, func(o *Options) { o.Slots = slots })
	for i := range 20 {
		near, far := net.Pipe()
		defer far.Close()
		c := &conn{srv: s, base: near, nc: near, fd: -1}
		c.state.Store(idle)
		if i >= 10 {
			c.state.Store(closing)
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
	}
	slots.look()
	if _, ok := slots.next(); ok {
		t.Error("an idle connection gives way where ten others are going")
	}
	s.mu.Lock()
	clear(s.conns)
	s.mu.Unlock()
}

// A flood of connections that send nothing does not end the idle connections of others.
func TestFloodLeavesIdleConnections(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, func(o *Options) { o.Slots = NewSlots(20) })
	var held [10]*peer
	for i := range held {
		held[i] = dial(t, address)
		held[i].say(get)
		held[i].want(200, "GET /g ")
	}
	for range 100 {
		dial(t, address)
	}
	p := dial(t, address)
	p.say(get)
	p.want(200, "GET /g ") // all of the flood has been accepted before it
	for i, p := range held {
		p.say(get)
		p.want(200, "GET /g ")
		if s.Open() > 20 {
			t.Errorf("%d: %d connections are open", i, s.Open())
		}
	}
}

package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func limited(upstreams int64) (*Dialer, *budget.Budget) {
	b := budget.New(budget.Limits{InFlight: 1000, Buffered: 1 << 20, Upstreams: upstreams})
	return NewDialer(nil, b), b
}

func dialedBy(t *testing.T, d *Dialer, s Settings) *Service {
	svc := New(s, quiet, d)
	t.Cleanup(svc.Close)
	return svc
}

// holding is a server whose responses have no end before they are released.
func holding(t *testing.T, h2 bool, streams int) (i *instance, release func()) {
	wait := make(chan struct{})
	i = newProtocolServer(t, h2, streams, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		if r.Method == "PUT" {
			<-wait
		}
	}, &instance{})
	var once sync.Once
	release = func() { once.Do(func() { close(wait) }) }
	t.Cleanup(release) // before the server is closed
	return i, release
}

func send(svc *Service, method string, a *budget.Account) (Response, bool, error) {
	x := exchange(method)
	r, err := svc.Send(context.Background(), x, &message.Message{Account: a})
	return r, x.Dispatched, err
}

// Connections are counted as long as their descriptors are open. Beyond the limit a request is
// refused before anything is sent, which is no repeat and no fault of the service.
func TestConnectionsAreCounted(t *testing.T) {
	t.Parallel()
	i, release := holding(t, false, 0)
	d, b := limited(3)
	s := settings(i)
	s.Attempts, s.OnConnect, s.OnReset, s.Budget = 3, true, true, 1
	s.Health = &Health{Path: "/", Every: 10 * time.Millisecond, Timeout: time.Second}
	var repeats atomic.Int64
	m, reports := watched()
	m.Retries = hook(func() { repeats.Add(1) })
	svc := New(s, m, d)
	defer svc.Close()
	expectReport(t, reports, true)
	s.Health = nil
	svc.Configure(s)
	until(t, "the check's connection closes", func() bool { return b.Used(budget.Upstreams) == 0 })
	var held []Response
	for range 3 {
		r, _, err := send(svc, "PUT", nil)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	s.Health = often("/")
	svc.Configure(s)
	for range 10 {
		_, sent, err := send(svc, "GET", nil)
		if !errors.Is(err, ErrOverloaded) || errors.Is(err, ErrUnreachable) || sent {
			t.Fatalf("beyond the limit: %v, sent %v", err, sent)
		}
	}
	refused := b.Refused(budget.Upstreams)
	until(t, "checks go without", func() bool { return b.Refused(budget.Upstreams) > refused+5 })
	if e := endpoints(svc)[0]; e.down.Load() || repeats.Load() != 0 {
		t.Errorf("for want of a descriptor the endpoint is down: %v, %d repeats", e.down.Load(), repeats.Load())
	}
	s.Health = nil
	svc.Configure(s)
	release()
	for _, r := range held {
		read(t, r, nil)
	}
	get(t, svc)
	if n := b.Used(budget.Upstreams); n != 3 {
		t.Errorf("%d connections are counted, and three are kept", n)
	}
	svc.Close()
	if n := b.Used(budget.Upstreams); n != 0 {
		t.Errorf("%d connections are counted, and none is open", n)
	}
	get(t, svc) // closed right behind
	if n := b.Used(budget.Upstreams); n != 0 {
		t.Errorf("%d connections are counted, and none is open", n)
	}
}

// Idle connections give way, of either protocol and of other services too.
func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	one, two, needs := newInstance(t), newHTTP2Instance(t), newInstance(t)
	for _, i := range []*instance{one, two, needs} {
		d, b := limited(1)
		idle := dialedBy(t, d, settings(i))
		get(t, idle)
		if n := b.Used(budget.Upstreams); n != 1 {
			t.Fatalf("%d connections are counted", n)
		}
		other := dialedBy(t, d, settings(needs))
		for range 3 {
			until(t, "there is a connection for the other service", func() bool { return sendOne(other) == nil })
			until(t, "and back", func() bool { return sendOne(idle) == nil })
		}
		until(t, "the one that gave way is closed", func() bool { return i == needs || i.open.Load() <= 1 })
		if n := b.Used(budget.Upstreams); n != 1 {
			t.Errorf("%d connections are counted", n)
		}
	}
}

// A client whose connections hold many has less than all; what it gives back to the pool is the
// gateway's own, and counted for it again when it is taken while there are few.
func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	i, release := holding(t, false, 0)
	d, b := limited(100)
	svc := dialedBy(t, d, settings(i))
	greedy := b.Account(netip.MustParseAddr("192.0.2.1"))
	var held []Response
	hold := func() int {
		for {
			r, sent, err := send(svc, "PUT", greedy)
			if errors.Is(err, ErrOverloaded) && !sent {
				return len(held)
			}
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, r)
		}
	}
	first := hold()
	if first < 10 || first > 30 {
		t.Errorf("one connection of a client gets %d of 100", first)
	}
	if n := greedy.Held(budget.Upstreams); n != int64(first) {
		t.Errorf("%d are counted for it", n)
	}
	other := b.Account(netip.MustParseAddr("192.0.2.2"))
	r, _, err := send(svc, "GET", other)
	read(t, r, err)
	if n := other.Held(budget.Upstreams); n != 0 {
		t.Errorf("an idle connection is counted for the client that made it: %d", n)
	}
	release()
	for _, r := range held {
		read(t, r, nil)
	}
	if n, all := greedy.Held(budget.Upstreams), b.Used(budget.Upstreams); n != 0 || all != int64(first)+1 {
		t.Errorf("idle: %d for the client, %d in all", n, all)
	}
	greedy.Close()
	other.Close()
}

// Over and over a client makes connections and leaves them idle: it never holds more than its share.
func TestIdleConnectionsDoNotEscape(t *testing.T) {
	t.Parallel()
	var wait atomic.Pointer[chan struct{}]
	i := newProtocolServer(t, false, 0, func(w http.ResponseWriter, _ *http.Request) {
		http.NewResponseController(w).Flush()
		<-*wait.Load()
	}, &instance{})
	d, b := limited(40)
	svc := dialedBy(t, d, settings(i))
	greedy := b.Account(netip.MustParseAddr("192.0.2.1"))
	for range 6 {
		c := make(chan struct{})
		wait.Store(&c)
		var held []Response
		for {
			r, _, err := send(svc, "PUT", greedy)
			if err != nil {
				if !errors.Is(err, ErrOverloaded) {
					t.Error(err)
				}
				break
			}
			held = append(held, r)
		}
		if len(held) > 30 { // half of them uncounted, and its share of the rest
			t.Errorf("one connection of a client holds %d of 40", len(held))
		}
		close(c)
		for _, r := range held {
			read(t, r, nil)
		}
	}
}

// A place is given back wherever the connection ends.
func TestEveryDescriptorIsGivenBack(t *testing.T) {
	t.Parallel()
	d, b := limited(100)
	empty := func(what string) {
		t.Helper()
		until(t, "nothing is counted: "+what, func() bool { return b.Used(budget.Upstreams) == 0 })
	}
	dead := nobodyAt(t)
	gone := &instance{}
	gone.Endpoint.Network, gone.Endpoint.Address = "tcp", dead
	account := b.Account(netip.MustParseAddr("192.0.2.1"))
	defer account.Close()
	if _, _, err := send(dialedBy(t, d, settings(gone)), "GET", account); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	empty("refused")
	gone.TLS = true
	address := serve(t, func(_ int64, c net.Conn, r *bufio.Reader) { io.WriteString(c, "no TLS\r\n\r\n") })
	gone.Address, gone.Host = address, "h"
	if _, _, err := send(dialedBy(t, d, settings(gone)), "GET", account); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	empty("no TLS")
	gone.TLS = false
	for _, h2 := range []bool{false, true} {
		gone.HTTP2 = h2
		if _, _, err := send(dialedBy(t, d, settings(gone)), "GET", account); err == nil {
			t.Error("no HTTP, and a response")
		}
		empty("no HTTP")
	}
	for _, h2 := range []bool{false, true} {
		i, _ := holding(t, h2, 0)
		svc := dialedBy(t, d, settings(i))
		r, _, err := send(svc, "PUT", account)
		if err != nil {
			t.Fatal(err)
		}
		r.Close() // before its end
		svc.Close()
		empty("given up")
	}
}

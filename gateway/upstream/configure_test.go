package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/freeport"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// instance is a server that counts.
type instance struct {
	config.Endpoint
	requests    atomic.Int64
	connections atomic.Int64 // that it took
	open        atomic.Int64
	sick        atomic.Bool
}

// newInstance starts a server that responds to each request with the number of its connection.
func newInstance(t *testing.T) *instance {
	i := &instance{}
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		i.connections.Add(1)
		i.open.Add(1)
		defer i.open.Add(-1)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			i.requests.Add(1)
			status := 200
			if i.sick.Load() {
				status = 500
			}
			body := fmt.Sprint(n)
			fmt.Fprintf(c, "HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		}
	})
	i.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address}
	return i
}

// newHTTP2Instance starts a server of HTTP/2 with prior knowledge.
func newHTTP2Instance(t *testing.T) *instance {
	i := &instance{}
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.requests.Add(1)
		io.WriteString(w, "h2")
	}))
	srv.Config.Protocols = &p
	srv.Config.ConnState = i.count
	srv.Start()
	t.Cleanup(srv.Close)
	address := srv.Listener.Addr().String()
	i.Endpoint = config.Endpoint{Network: "tcp", Address: address, Host: address, HTTP2: true}
	return i
}

func (i *instance) count(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		i.connections.Add(1)
		i.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		i.open.Add(-1)
	}
}

func settings(of ...*instance) Settings {
	s := Settings{Name: "a", Timeout: 20 * time.Second, ConnectTimeout: 10 * time.Second}
	for _, i := range of {
		s.Endpoints = append(s.Endpoints, i.Endpoint)
	}
	return s
}

func started(t *testing.T, s Settings, m Metrics) *Service {
	svc := New(s, m, system())
	t.Cleanup(svc.Close)
	return svc
}

func get(t *testing.T, svc *Service) readResponse {
	t.Helper()
	r, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
	return read(t, r, err)
}

// nobodyAt returns an address at which nobody listens, now or later: a port that a listener has left may be the next
// one's.
func nobodyAt(t *testing.T) string {
	t.Helper()
	address, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Endpoints come, go and come back under requests of both protocols; none fails, and in the end
// only those that are left get any.
func TestConfigureUnderRequests(t *testing.T) {
	t.Parallel()
	all := []*instance{newInstance(t), newInstance(t), newInstance(t), newHTTP2Instance(t), newHTTP2Instance(t)}
	svc := started(t, settings(all...), quiet)
	stop := make(chan struct{})
	var sent atomic.Int64
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := sendOne(svc); err != nil {
					t.Errorf("a request fails: %v", err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 200 {
		before := sent.Load()
		s := settings(some(all)...)
		s.Timeout += time.Duration(i)
		if i%10 == 0 {
			s.Health = often("/")
		}
		svc.Configure(s)
		until(t, "requests go on", func() bool { return sent.Load() > before || t.Failed() })
	}
	left := all[:1]
	svc.Configure(settings(left...))
	close(stop)
	senders.Wait()
	for _, i := range all[1:] {
		until(t, "the connections of removed endpoints close", func() bool { return i.open.Load() == 0 })
	}
	var before []int64
	for _, i := range all {
		before = append(before, i.requests.Load())
	}
	for range 20 {
		get(t, svc)
	}
	for n, i := range all {
		if got := i.requests.Load() - before[n]; n == 0 && got < 20 || n > 0 && got != 0 {
			t.Errorf("endpoint %d got %d of 20 requests", n, got)
		}
	}
	for _, e := range endpoints(svc) {
		if n := e.inUse.Load(); n != 0 {
			t.Errorf("%d exchanges are counted as under way", n)
		}
	}
}

// sendOne sends a request without any repeat.
func sendOne(svc *Service) error {
	r, err := svc.Send(context.Background(), exchange("POST"), &message.Message{Bytes: []byte("{}")})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	if status, _, _ := r.Head(); err == nil && status != 200 {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

// some returns one or more of all, in any order.
func some(all []*instance) []*instance {
	list := slices.Clone(all)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:1+rand.IntN(len(list))]
}

// An endpoint that stays keeps its idle connections, whatever else changes.
func TestConfigureKeepsIdleConnections(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		stays, other := newInstance(t), newInstance(t)
		if h2 {
			stays = newHTTP2Instance(t)
		}
		svc := started(t, settings(stays), quiet)
		get(t, svc)
		for i, s := range []Settings{settings(stays), settings(other, stays), settings(stays)} {
			s.Timeout += time.Duration(i)
			s.Attempts, s.OnConnect, s.Budget = i, true, 0.1
			svc.Configure(s)
		}
		get(t, svc)
		if n := stays.connections.Load(); n != 1 || stays.requests.Load() != 2 {
			t.Errorf("HTTP/2 %v: %d requests on %d connections", h2, stays.requests.Load(), n)
		}
	}
}

// What is idle closes at once, what is in use at the end of its exchange.
func TestConfigureDrainsRemovedEndpoints(t *testing.T) {
	t.Parallel()
	begun, finish, closed := make(chan struct{}, 1), make(chan struct{}), make(chan struct{}, 2)
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		defer func() { closed <- struct{}{} }()
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
			if req.Method == "PUT" {
				begun <- struct{}{}
				<-finish
			}
			io.WriteString(c, "lf")
		}
	})
	goes := &instance{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: "h"}}
	stays := newInstance(t)
	svc := started(t, settings(goes), quiet)
	under, err := svc.Send(context.Background(), exchange("PUT"), &message.Message{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	get(t, svc) // on a second connection, which is idle then
	e := endpoints(svc)[0]
	next := settings(stays)
	next.Timeout = time.Millisecond // not for what is under way
	svc.Configure(next)
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the idle connection of a removed endpoint stays open")
	}
	if n := e.inUse.Load(); n != 1 {
		t.Errorf("%d exchanges under way, want 1", n)
	}
	close(finish)
	if got := read(t, under, nil); got.body != "half" {
		t.Errorf("what was under way ended with %q", got.body)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection in use stays open behind its exchange")
	}
	if n := e.inUse.Load(); n != 0 {
		t.Errorf("%d exchanges under way, want none", n)
	}
}

// A request goes on with the settings that it began with.
func TestConfigureLeavesRequestsTheirSettings(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	address := serve(t, func(n int64, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		if n == 1 {
			close(begun)
		}
		<-finish
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	i := &instance{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: "h"}}
	svc := started(t, settings(i), quiet)
	result := make(chan error, 1)
	go func() { result <- sendOne(svc) }()
	<-begun
	short := settings(i)
	short.Timeout = 10 * time.Millisecond
	svc.Configure(short)
	// On a busy machine the time may be over before anything is written.
	if err := sendOne(svc); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrUnreachable) {
		t.Errorf("with the new timeout: %v", err)
	}
	close(finish)
	if err := <-result; err != nil {
		t.Errorf("with the old timeout: %v", err)
	}
}

// hook is a counter that calls a function.
type hook func()

func (h hook) Inc() { h() }

// A request that was assigned to an endpoint just before its removal, and that did not reach it,
// goes to another one, and costs no repeat.
func TestRequestMovesFromRemovedEndpoint(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		address := nobodyAt(t)
		gone := &instance{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: "h", HTTP2: h2}}
		stays := newInstance(t)
		m := quiet
		var svc *Service
		var once sync.Once
		m.Connects = hook(func() { once.Do(func() { svc.Configure(settings(stays)) }) })
		svc = started(t, settings(gone), m)
		x := exchange("POST")
		body := &message.Message{Stream: stream{strings.NewReader("body")}, Length: 4}
		r, err := svc.Send(context.Background(), x, body)
		if got := read(t, r, err); got.status != 200 || !x.Dispatched || stays.requests.Load() != 1 {
			t.Errorf("HTTP/2 %v: got %+v, %d requests", h2, got, stays.requests.Load())
		}
	}
}

// Without an endpoint nothing is sent.
func TestNoEndpoint(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	svc := started(t, settings(i), quiet)
	svc.Configure(settings())
	x := exchange("GET")
	_, err := svc.Send(context.Background(), x, &message.Message{})
	if !errors.Is(err, ErrUnreachable) || x.Dispatched {
		t.Errorf("got %v, dispatched %v", err, x.Dispatched)
	}
	svc.Configure(settings(i))
	get(t, svc)
}

func TestConfigureKeepsBudget(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	s := settings(i)
	s.Budget = 0.2
	svc := started(t, s, quiet)
	now := time.Now()
	for range 50 {
		svc.budget.request(now)
	}
	for range 5 {
		if !svc.budget.take(now, s.Budget) {
			t.Fatal("less than a share of the requests")
		}
	}
	s.Attempts = 1
	svc.Configure(s)
	left := 0
	for svc.budget.take(now, s.Budget) {
		left++
	}
	if left != 5 {
		t.Errorf("%d of 5 repeats are left", left)
	}
	if svc.budget.take(now, 0) {
		t.Error("a share of 0 allows a repeat")
	}
}

// A closed service still sends for those that have it, and keeps nothing open behind them.
func TestClosedService(t *testing.T) {
	t.Parallel()
	for _, i := range []*instance{newInstance(t), newHTTP2Instance(t)} {
		svc := New(settings(i), quiet, system())
		get(t, svc)
		svc.Close()
		svc.Close()
		svc.Configure(settings())
		for range 3 {
			get(t, svc)
		}
		until(t, "its connections close", func() bool { return i.open.Load() == 0 })
	}
}

// A service that is closed while a request connects still gets the request, and keeps no connection.
func TestCloseWhileConnecting(t *testing.T) {
	t.Parallel()
	for _, i := range []*instance{newInstance(t), newHTTP2Instance(t)} {
		m := quiet
		var svc *Service
		m.Connects = hook(func() { svc.Close() })
		svc = New(settings(i), m, system())
		get(t, svc)
		until(t, "its connection closes", func() bool { return i.requests.Load() == 1 && i.open.Load() == 0 })
	}
}

// Requests and Close at a time: none fails.
func TestCloseUnderRequests(t *testing.T) {
	t.Parallel()
	for range 20 {
		svc := New(settings(newHTTP2Instance(t), newInstance(t)), quiet, system())
		var senders sync.WaitGroup
		begun := make(chan struct{}, 100)
		for range 4 {
			senders.Go(func() {
				for range 10 {
					if err := sendOne(svc); err != nil {
						t.Errorf("a request fails: %v", err)
					}
					begun <- struct{}{}
				}
			})
		}
		<-begun
		svc.Close()
		senders.Wait()
	}
}

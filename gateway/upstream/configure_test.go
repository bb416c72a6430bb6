package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	svc := New(s, m)
	t.Cleanup(svc.Close)
	return svc
}

func get(t *testing.T, svc *Service) readResponse {
	t.Helper()
	r, err := svc.Send(context.Background(), exchange("GET"), &message.Message{})
	return read(t, r, err)
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
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dead.Close()
		address := dead.Addr().String()
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

// healthLog keeps the reports of health.
type healthLog struct {
	mu  sync.Mutex
	log []string
}

func (l *healthLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, line)
}

func (l *healthLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.log)
}

func (l *healthLog) metrics() Metrics {
	m := quiet
	m.Health = func(e string, healthy bool) { l.add(fmt.Sprint(e, " ", healthy)) }
	m.Unwatched = func(e string) { l.add(e + " unwatched") }
	return m
}

func TestConfigureKeepsHealth(t *testing.T) {
	t.Parallel()
	good, bad := newInstance(t), newInstance(t)
	bad.sick.Store(true)
	var l healthLog
	s := settings(good, bad)
	s.Health = often("/")
	svc := started(t, s, l.metrics())
	isDown := func(n int) bool { return endpoints(svc)[n].down.Load() }
	until(t, "the endpoint is left out", func() bool { return isDown(1) && len(l.lines()) == 3 })

	s.Timeout++
	svc.Configure(s) // the checks go on
	s.Health = &Health{Path: "/other", Every: 20 * time.Millisecond, Timeout: 10 * time.Second}
	svc.Configure(s) // others take their place
	checked := bad.requests.Load()
	until(t, "the new checks run", func() bool { return bad.requests.Load() > checked+3 })
	if !isDown(1) || isDown(0) || len(l.lines()) != 3 {
		t.Errorf("the health is reported anew: %q", l.lines())
	}
	bad.sick.Store(false)
	until(t, "a success brings it back", func() bool { return !isDown(1) && len(l.lines()) == 4 })

	bad.sick.Store(true)
	until(t, "the endpoint is left out again", func() bool { return isDown(1) && len(l.lines()) == 5 })
	down := endpoints(svc)[1]
	s.Health = nil
	svc.Configure(s)
	if down.down.Load() || len(l.lines()) != 7 {
		t.Errorf("without checks: left out %v, reported %q", down.down.Load(), l.lines())
	}
	checked = bad.requests.Load()
	s.Health = often("/")
	svc.Configure(s)
	until(t, "it is checked again", func() bool { return bad.requests.Load() > checked && len(l.lines()) >= 9 })

	removed := settings(good)
	removed.Health = s.Health
	svc.Configure(removed)
	lines := l.lines()
	if lines[len(lines)-1] != bad.Address+" unwatched" || slices.Contains(lines[7:], good.Address+" unwatched") {
		t.Errorf("reported %q", lines)
	}
	checked = bad.requests.Load()
	seen := good.requests.Load()
	until(t, "the other one is checked on", func() bool { return good.requests.Load() > seen+10 })
	if n := bad.requests.Load() - checked; n > 1 { // the server may read late what was given up
		t.Errorf("a removed endpoint is checked %d times", n)
	}
}

// An endpoint whose protocol changes under one address does not lose its place in the metrics.
func TestHealthOfAnAddressThatStays(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	var l healthLog
	s := settings(i)
	s.Health = often("/")
	svc := started(t, s, l.metrics())
	until(t, "it is checked", func() bool { return len(l.lines()) == 1 })
	s.Endpoints = []config.Endpoint{{Network: "tcp", Address: i.Address, Host: "other"}}
	svc.Configure(s)
	until(t, "it is checked", func() bool { return len(l.lines()) == 2 })
	svc.Close()
	want := []string{i.Address + " true", i.Address + " true", i.Address + " unwatched"}
	if got := l.lines(); !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
}

// New TLS has new connections; the same one, read again, has not. The load stays counted.
func TestConfigureTLS(t *testing.T) {
	t.Parallel()
	i := &instance{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { i.requests.Add(1) }))
	srv.Config.ConnState = i.count
	srv.StartTLS()
	t.Cleanup(srv.Close)
	i.Endpoint = config.Endpoint{Network: "tcp", Address: srv.Listener.Addr().String(), Host: "h", TLS: true}
	roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	plain := newInstance(t)
	with := func(digest string) Settings {
		s := settings(i, plain)
		s.TLS, s.TLSDigest = &tls.Config{RootCAs: roots}, digest
		return s
	}
	svc := started(t, with("1"), quiet)
	one := func() {
		endpoints(svc)[1].inUse.Store(100) // so that the other one is taken
		get(t, svc)
		endpoints(svc)[1].inUse.Store(0)
	}
	one()
	svc.Configure(with("1"))
	one()
	if n := i.connections.Load(); n != 1 {
		t.Errorf("%d connections with one TLS", n)
	}
	e := endpoints(svc)[0]
	svc.Configure(with("2"))
	if endpoints(svc)[0] != e {
		t.Error("the endpoint is another one with another TLS")
	}
	until(t, "the idle connection of the old TLS closes", func() bool { return i.open.Load() == 0 })
	one()
	if n := i.connections.Load(); n != 2 {
		t.Errorf("%d connections with two TLS", n)
	}
	svc.Configure(with("")) // which may be any
	one()
	if n := i.connections.Load(); n != 3 {
		t.Errorf("%d connections with three TLS", n)
	}
}

// An endpoint that failed its check for the TLS that it was checked with is checked again as soon
// as there is another one.
func TestNewTLSIsChecked(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	address := srv.Listener.Addr().String()
	i := &instance{Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: "h", TLS: true}}
	var l healthLog
	s := settings(i)
	s.Health = &Health{Path: "/", Every: time.Hour, Timeout: 10 * time.Second}
	svc := started(t, s, l.metrics())
	until(t, "it is checked", func() bool { return len(l.lines()) == 1 })
	e := endpoints(svc)[0]
	e.down.Store(true) // as after a second failure
	s.TLS = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	svc.Configure(s)
	until(t, "it is back", func() bool { return !e.down.Load() })
}

func TestConfigureKeepsBudget(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	s := settings(i)
	s.Budget = 0.2
	svc := started(t, s, quiet)
	svc.budget.units.Store(5 * budgetUnit)
	s.Budget, s.Attempts = 0.5, 1
	svc.Configure(s)
	if n := svc.budget.units.Load(); n != 5*budgetUnit {
		t.Errorf("%d thousandths are left of 5 repeats", n)
	}
	if svc.budget.take(0) {
		t.Error("a share of 0 allows a repeat")
	}
}

// A closed service still sends for those that have it, and keeps nothing open behind them.
func TestClosedService(t *testing.T) {
	t.Parallel()
	for _, i := range []*instance{newInstance(t), newHTTP2Instance(t)} {
		svc := New(settings(i), quiet)
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
		svc = New(settings(i), m)
		get(t, svc)
		until(t, "its connection closes", func() bool { return i.requests.Load() == 1 && i.open.Load() == 0 })
	}
}

// Requests and Close at a time: none fails.
func TestCloseUnderRequests(t *testing.T) {
	t.Parallel()
	for range 20 {
		svc := New(settings(newHTTP2Instance(t), newInstance(t)), quiet)
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

// Every setting counts, those too that are added later.
func TestSettingsEqual(t *testing.T) {
	full := Settings{
		Name: "a", Endpoints: []config.Endpoint{{Address: "1"}, {Address: "2"}}, TLS: &tls.Config{}, TLSDigest: "d",
		Timeout: 1, ConnectTimeout: 2, Attempts: 3, OnConnect: true, OnReset: true, Budget: 0.5,
		Health: &Health{"/", 1, 2},
	}
	same := full.clone()
	same.TLS = &tls.Config{}
	if !full.Equal(same) || !same.Equal(full) || !(Settings{}).Equal(Settings{}) {
		t.Error("equal settings are not Equal")
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		changed := full.clone()
		f := reflect.ValueOf(&changed).Elem().Field(i)
		if f.IsZero() {
			t.Fatalf("the test has no %s", name)
		}
		f.SetZero()
		if name == "TLSDigest" { // without it the pointer decides
			changed.TLS = &tls.Config{}
		}
		if full.Equal(changed) || changed.Equal(full) {
			t.Errorf("settings with another %s are Equal", name)
		}
	}
	for name, change := range map[string]func(*Settings){
		"endpoint":      func(s *Settings) { s.Endpoints[1].HTTP2 = true },
		"digest":        func(s *Settings) { s.TLS, s.TLSDigest = &tls.Config{}, "e" },
		"health's time": func(s *Settings) { s.Health.Every++ },
	} {
		changed := full.clone()
		if change(&changed); full.Equal(changed) {
			t.Errorf("settings with another %s are Equal", name)
		}
	}
}

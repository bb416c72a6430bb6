package upstream

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

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
	until(t, "the endpoint is left out", func() bool { return isDown(1) && len(l.lines()) == 2 })

	s.Timeout++
	svc.Configure(s) // the checks go on
	s.Health = &Health{Path: "/other", Every: 20 * time.Millisecond, Timeout: 10 * time.Second}
	svc.Configure(s) // others take their place
	checked := bad.requests.Load()
	until(t, "the new checks run", func() bool { return bad.requests.Load() > checked+3 })
	if !isDown(1) || isDown(0) || len(l.lines()) != 2 {
		t.Errorf("the health is reported anew: %q", l.lines())
	}
	bad.sick.Store(false)
	until(t, "a success brings it back", func() bool { return !isDown(1) && len(l.lines()) == 3 })

	bad.sick.Store(true)
	until(t, "the endpoint is left out again", func() bool { return isDown(1) && len(l.lines()) == 4 })
	down := endpoints(svc)[1]
	s.Health = nil
	svc.Configure(s)
	if down.down.Load() || len(l.lines()) != 6 {
		t.Errorf("without checks: left out %v, reported %q", down.down.Load(), l.lines())
	}
	checked = bad.requests.Load()
	s.Health = often("/")
	svc.Configure(s)
	until(t, "it is checked again", func() bool { return bad.requests.Load() > checked && len(l.lines()) >= 8 })

	removed := settings(good)
	removed.Health = s.Health
	svc.Configure(removed)
	lines := l.lines()
	if lines[len(lines)-1] != bad.Address+" unwatched" || slices.Contains(lines[6:], good.Address+" unwatched") {
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
	s.Health = often("/")
	svc := started(t, s, l.metrics())
	until(t, "it is left out", func() bool { return len(l.lines()) == 1 })
	e := endpoints(svc)[0]
	s.Health = &Health{Path: "/", Every: time.Hour, Timeout: 10 * time.Second}
	svc.Configure(s)
	if !e.down.Load() {
		t.Fatal("other settings of the checks bring it back")
	}
	s.TLS = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	svc.Configure(s)
	until(t, "it is back", func() bool { return !e.down.Load() })
}

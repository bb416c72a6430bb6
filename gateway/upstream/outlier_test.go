package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

func TestEjectionsGrowAndAreForgotten(t *testing.T) {
	t0 := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
	o := &Outlier{Errors: 5, Eject: 30 * time.Second, Max: 1}
	var j ejections
	for i, c := range []struct {
		at     float64 // seconds
		random float64
		want   float64 // seconds
	}{
		{0, 0, 30}, {31, 0, 60}, {92, .5, 99}, // it fails again as soon as it is used
		{92 + 99 + 29, 0, 120}, // used for less than 30 s
		{340 + 61, 0, 90},      // used for two times 30 s: 4 - 2 + 1
		{491 + 1000, 0, 30},    // all forgotten
		{1400, 0, 60},          // the clock was set back
		{1460, 0, 90}, {1550, .999, 143.976}, {1700, 0, 150}, {1850, 0, 180}, {2030, 0, 210}, {2240, 0, 240},
		{2480, 0, 270}, {2750, 0, 300}, {3050, 0, 300}, {3350, 0, 300}, // ten times at most
	} {
		now := t0.Add(time.Duration(c.at * float64(time.Second)))
		want := time.Duration(c.want * float64(time.Second))
		if got := j.begin(now, o, c.random); got-want > time.Millisecond || want-got > time.Millisecond {
			t.Fatalf("step %d: ejected for %v, want %v", i, got, want)
		}
	}
	j.end(t0.Add(3400 * time.Second)) // 250 s before its time
	if got := j.begin(t0.Add(3430*time.Second), o, 0); got != 300*time.Second {
		t.Errorf("ejected for %v after one that was ended early, and 30 s of use", got)
	}
}

func TestShareOfEjected(t *testing.T) {
	for _, c := range []struct {
		max  float64
		n    int
		want int
	}{
		{.5, 1, 0}, {.5, 2, 1}, {.5, 3, 1}, {.5, 4, 2}, {1, 1, 0}, {1, 2, 1}, {1, 10, 9}, {.1, 9, 0}, {.1, 10, 1},
		{.07, 100, 7}, {.29, 100, 29}, {.5, 0, -1},
	} {
		if got := (&Outlier{Max: c.max}).allowed(c.n); got != c.want {
			t.Errorf("%v of %d endpoints: %d, want %d", c.max, c.n, got, c.want)
		}
	}
}

func TestWhatSaysSomethingOfAnEndpoint(t *testing.T) {
	gone, leave := context.WithCancel(context.Background())
	leave()
	broke := errors.New("connection reset")
	connecting := &connectError{"a", broke}
	wrap := func(err, cause error) error { return fmt.Errorf("%w: %w (endpoint a)", err, cause) }
	for _, c := range []struct {
		name string
		ctx  context.Context
		on   condition
		err  error
		want int32 // failures in a row behind two
	}{
		{"no connection", t.Context(), connectFailure, wrap(ErrUnreachable, connecting), 3},
		{"no connection, and no fault that is known", t.Context(), connectFailure, wrap(ErrUnreachable, broke), 2},
		{"no connection for want of descriptors", t.Context(), never, ErrOverloaded, 2},
		{"reset", t.Context(), never, wrap(ErrFailed, broke), 3},
		{"reset before a byte of the response", t.Context(), resetBeforeRequest, wrap(ErrFailed, broke), 3},
		{"timeout", t.Context(), never, wrap(ErrTimeout, broke), 3},
		{"closed while it was kept", t.Context(), resetBeforeRequest, wrap(ErrUnreachable, broke), 2},
		{"new, and closed before anything was sent", t.Context(), never, wrap(ErrUnreachable, broke), 3},
		{"the client's body", t.Context(), never, wrap(ErrClientBody, broke), 2},
		{"the client's own time is over", t.Context(), never, wrap(ErrDeadline, broke), 2},
		{"over before anything was sent", t.Context(), never, ErrExpired, 2},
		{"the client left", gone, never, wrap(ErrClientGone, broke), 2},
		{"the client left while connecting", gone, connectFailure, wrap(ErrUnreachable, connecting), 2},
	} {
		svc, _ := outlierService(t, 2, Outlier{Errors: 5, Eject: time.Hour, Max: .5})
		e := endpoints(svc)[0]
		fail(e, 2)
		e.observe(c.ctx, exchange("GET"), nil, c.on, c.err)
		if got := e.outlier.failures.Load(); got != c.want {
			t.Errorf("%s: %d failures in a row, want %d", c.name, got, c.want)
		}
	}
}

// outlierService has endpoints that nobody connects to.
func outlierService(t *testing.T, n int, o Outlier) (*Service, *ejectionLog) {
	t.Helper()
	return startedEjecting(t, unconnected(n, o))
}

func unconnected(n int, o Outlier) Settings {
	s := Settings{Outlier: &o, Timeout: time.Second, ConnectTimeout: time.Second}
	for i := range n {
		s.Endpoints = append(s.Endpoints, config.Endpoint{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", i+1)})
	}
	return s
}

// ejectionLog notes what a service tells of its ejections.
type ejectionLog struct{ ejected, readmitted atomic.Int64 }

func startedEjecting(t *testing.T, s Settings) (*Service, *ejectionLog) {
	t.Helper()
	log, m := new(ejectionLog), quiet
	m.Ejected = func(string, time.Duration) { log.ejected.Add(1) }
	m.Readmitted = func(string) { log.readmitted.Add(1) }
	return started(t, s, m), log
}

func ejectedOf(s *Service) (list []int) {
	for i, e := range s.Endpoints() {
		if e.State == Ejected {
			list = append(list, i)
		}
	}
	return list
}

func fail(e *endpoint, times int) {
	for range times {
		e.take(failure)
	}
}

func TestErrorsInARowEject(t *testing.T) {
	svc, log := outlierService(t, 4, Outlier{Errors: 3, Eject: time.Hour, Max: .5})
	all := endpoints(svc)
	fail(all[0], 2)
	all[0].take(success)
	all[0].take(nothing)
	fail(all[0], 2)
	if got := ejectedOf(svc); got != nil {
		t.Fatalf("ejected %v with two failures in a row", got)
	}
	all[0].take(nothing) // ends no row
	fail(all[0], 1)
	fail(all[1], 3)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[0 1]" {
		t.Fatalf("ejected %v", got)
	}
	fail(all[2], 30)
	fail(all[0], 30)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[0 1]" || log.ejected.Load() != 2 {
		t.Fatalf("ejected %v of 4 with a share of 50%%, told %d times", got, log.ejected.Load())
	}
	for range 100 {
		if e := pick(all, nil); e.out() {
			t.Fatal("a request goes to an endpoint that is ejected")
		}
		if e := pick(all, all[2]); e != all[3] {
			t.Fatal("a repeat does not go to the one that is left")
		}
	}
	if left := svc.Endpoints()[0].EjectedFor; left < 50*time.Minute || left > 72*time.Minute {
		t.Errorf("the status says %v, want about an hour", left)
	}
}

// All of them are never ejected, whatever the share is, nor is the last one that passes its check.
func TestOneEndpointIsAlwaysLeft(t *testing.T) {
	svc, _ := outlierService(t, 3, Outlier{Errors: 1, Eject: time.Hour, Max: 1})
	for _, e := range endpoints(svc) {
		fail(e, 5)
	}
	if got := fmt.Sprint(ejectedOf(svc)); got != "[2]" {
		t.Errorf("ejected %v of 3, want the one that failed last: the others may work by now", got)
	}
	svc, _ = outlierService(t, 1, Outlier{Errors: 1, Eject: time.Hour, Max: 1})
	fail(endpoints(svc)[0], 5)
	if got := ejectedOf(svc); got != nil {
		t.Error("the only endpoint is ejected")
	}
	svc, _ = outlierService(t, 2, Outlier{Errors: 1, Eject: time.Hour, Max: 1})
	endpoints(svc)[0].down.Store(true)
	fail(endpoints(svc)[1], 5)
	if got := ejectedOf(svc); got != nil {
		t.Error("the only endpoint that passes its check is ejected")
	}
}

// Where all others are out, an endpoint that is ejected is better than one that fails its check.
func TestEjectedIsBetterThanDead(t *testing.T) {
	svc, _ := outlierService(t, 3, Outlier{Errors: 1, Eject: time.Hour, Max: .5})
	all := endpoints(svc)
	fail(all[0], 1)
	all[1].down.Store(true)
	all[2].cutOff.Store(true)
	for range 50 {
		if e := pick(all, nil); e != all[0] {
			t.Fatal("a request goes to an endpoint that is known not to work")
		}
		if e := pick(all, all[0]); e == all[0] {
			t.Fatal("a repeat goes where it has failed")
		}
	}
	all[0].down.Store(true)
	got := map[*endpoint]bool{}
	for range 200 {
		got[pick(all, nil)] = true
	}
	if len(got) != 3 {
		t.Errorf("with all of them dead %d are used", len(got))
	}
}

// Where all that are not ejected fail, be it that nobody knows they are dead, those that are ejected come back: they
// may work by now. That goes round at most once a second, and makes no ejection longer.
func TestEjectedComeBackWhereTheOthersFail(t *testing.T) {
	svc, log := outlierService(t, 4, Outlier{Errors: 3, Eject: time.Hour, Max: .5})
	all := endpoints(svc)
	fail(all[0], 3)
	fail(all[1], 3)
	fail(all[2], 9) // the share is used up
	if got := fmt.Sprint(ejectedOf(svc)); got != "[0 1]" {
		t.Fatalf("ejected %v", got)
	}
	all[1].down.Store(true)
	fail(all[3], 3)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[3]" || log.readmitted.Load() != 2 {
		t.Fatalf("ejected %v, %d came back", got, log.readmitted.Load())
	}
	fail(all[2], 1)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[2 3]" {
		t.Fatalf("ejected %v", got)
	}
	for range 50 {
		if e := pick(all, nil); e != all[0] {
			t.Fatal("a request goes to an endpoint that fails")
		}
	}
	fail(all[0], 3)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[2 3]" {
		t.Fatalf("ejected %v within a second", got)
	}
	svc.eject(all[0], time.Now().Add(roomEvery))
	if got := fmt.Sprint(ejectedOf(svc)); got != "[0]" {
		t.Fatalf("ejected %v a second later", got)
	}
	for i, e := range all {
		if row := e.outlier.history.row; row > 1 {
			t.Errorf("endpoint %d: %d ejections count in a row", i, row)
		}
	}
	all[2].down.Store(true)
	all[3].cutOff.Store(true)
	all[0].down.Store(true)
	all[1].down.Store(true)
	svc.eject(all[1], time.Now().Add(2*roomEvery))
	if !all[0].outlier.ejected.Load() {
		t.Error("an ejection is ended where all are dead")
	}
}

// One instance is ejected, and the other one dies: requests succeed again before the ejection is over.
func TestEjectedEndpointServesWhereTheOtherDies(t *testing.T) {
	t.Parallel()
	dead := nobodyAt(t)
	s := settings(newInstance(t))
	s.Endpoints = append(s.Endpoints, config.Endpoint{Network: "tcp", Address: dead, Host: "h"})
	s.Outlier = &Outlier{Errors: 2, Eject: time.Hour, Max: .5}
	svc, log := startedEjecting(t, s)
	fail(endpoints(svc)[0], 2)
	until(t, "the ejected one comes back", func() bool { _ = sendOne(svc); return log.readmitted.Load() == 1 })
	for range 20 {
		get(t, svc)
	}
}

func TestEjectionsFollowTheConfiguration(t *testing.T) {
	o := Outlier{Errors: 1, Eject: time.Hour, Max: 1}
	svc, log := outlierService(t, 4, o)
	all := endpoints(svc)
	for i, eject := range []time.Duration{3 * time.Hour, time.Hour, 2 * time.Hour} {
		s := unconnected(4, Outlier{Errors: 1, Eject: eject, Max: 1})
		svc.Configure(s)
		fail(all[i], 1)
	}
	steps := []struct {
		what string
		s    Settings
		want string
	}{
		{"the share stays", unconnected(4, o), "[0 1 2]"},
		{"a smaller share: those that had least time left come back",
			unconnected(4, Outlier{Errors: 1, Eject: time.Hour, Max: .25}), "[0]"},
		{"fewer endpoints: of two one may be ejected", unconnected(2, o), "[0]"},
		{"one is left, and it may not", unconnected(1, o), "[]"},
	}
	for _, c := range steps {
		svc.Configure(c.s)
		if got := fmt.Sprint(ejectedOf(svc)); got != c.want {
			t.Fatalf("%s: ejected %v, want %v", c.what, got, c.want)
		}
	}
	svc.Configure(unconnected(2, o))
	fail(endpoints(svc)[1], 1)
	off := unconnected(2, o)
	off.Outlier = nil
	svc.Configure(off)
	fail(endpoints(svc)[1], 100)
	if got := ejectedOf(svc); got != nil || log.ejected.Load() != 4 || log.readmitted.Load() != 4 {
		t.Errorf("ejected %v without the setting; told of %d ejections and %d ends", got, log.ejected.Load(),
			log.readmitted.Load())
	}
}

// A name's new address begins clean, also one that was ejected and had left.
func TestNewAddressBeginsClean(t *testing.T) {
	svc, log := outlierService(t, 2, Outlier{Errors: 2, Eject: time.Hour, Max: .5})
	n := &name{host: "h.test"}
	svc.mu.Lock()
	svc.names["h.test"] = n
	svc.mu.Unlock()
	t.Cleanup(func() { // it has no goroutine of its own
		svc.mu.Lock()
		defer svc.mu.Unlock()
		delete(svc.names, "h.test")
	})
	a, b := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	s := unconnected(0, *svc.current.Load().settings.Outlier)
	s.Endpoints = []config.Endpoint{{Network: "tcp", Address: "h.test:1"}}
	n.stop = func() {}
	svc.Configure(s)
	svc.found(n, []netip.Addr{a, b}, nil)
	fail(endpoints(svc)[0], 2)
	fail(endpoints(svc)[1], 1)
	if got := fmt.Sprint(ejectedOf(svc)); got != "[0]" {
		t.Fatalf("ejected %v", got)
	}
	svc.found(n, []netip.Addr{b}, nil)
	svc.found(n, []netip.Addr{a, b}, nil)
	if got := ejectedOf(svc); got != nil {
		t.Errorf("the address has left and is back, and is ejected: %v", got)
	}
	fail(endpoints(svc)[1], 1) // which stayed
	if got := fmt.Sprint(ejectedOf(svc)); got != "[1]" || log.readmitted.Load() != 0 {
		t.Errorf("ejected %v; told of %d ends", got, log.readmitted.Load())
	}
}

func TestEjectedEndpointComesBack(t *testing.T) {
	t.Parallel()
	one, two := newInstance(t), newInstance(t)
	s := settings(one, two)
	s.Outlier = &Outlier{Errors: 3, Eject: 20 * time.Millisecond, Max: .5}
	svc, log := startedEjecting(t, s)
	one.sick.Store(true)
	until(t, "the endpoint that fails is ejected", func() bool { get(t, svc); return log.ejected.Load() > 0 })
	one.sick.Store(false)
	until(t, "it is used again", func() bool { return log.readmitted.Load() == log.ejected.Load() })
	before := one.requests.Load()
	until(t, "both get requests", func() bool {
		get(t, svc)
		return one.requests.Load() > before && two.requests.Load() > 0
	})
}

// A service that is closed has no timer left, and its endpoints come back to nothing.
func TestClosedServiceEjectsNothing(t *testing.T) {
	svc, log := outlierService(t, 2, Outlier{Errors: 1, Eject: time.Hour, Max: 1})
	fail(endpoints(svc)[0], 1)
	svc.Close()
	fail(endpoints(svc)[0], 1)
	fail(endpoints(svc)[1], 1)
	if got := ejectedOf(svc); got != nil || log.ejected.Load() != 1 {
		t.Errorf("ejected %v", got)
	}
}

// What cannot be connected to is ejected as well, where it is no name that has other addresses.
func TestUnreachableEndpointIsEjected(t *testing.T) {
	t.Parallel()
	dead := nobodyAt(t)
	s := settings(newInstance(t))
	s.Endpoints = append(s.Endpoints, config.Endpoint{Network: "tcp", Address: dead, Host: "h"})
	s.Outlier = &Outlier{Errors: 2, Eject: time.Hour, Max: .5}
	svc, log := startedEjecting(t, s)
	until(t, "it is ejected", func() bool { _ = sendOne(svc); return log.ejected.Load() == 1 })
	for range 20 {
		get(t, svc)
	}
}

// A call of gRPC is judged by its status, be that in the head or behind the body.
func TestEndpointsOfGRPCAreJudgedByTheStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, head, trailer string
		want                int32 // failures in a row, after one
	}{
		{"ok", "", "0", 0},
		{"unavailable, in the head", "14", "", 2},
		{"unavailable, behind the body", "", "14", 2},
		{"internal", "", "13", 2},
		{"deadline exceeded", "", "4", 1},
		{"not found", "5", "", 0},
		{"invalid argument", "", "3", 0},
		{"no status", "", "", 0},
	} {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			if c.head != "" {
				w.Header().Set("Grpc-Status", c.head)
				return
			}
			w.Header().Set("Trailer", "Grpc-Status")
			io.WriteString(w, "\x00\x00\x00\x00\x00")
			if c.trailer != "" {
				w.Header().Set("Grpc-Status", c.trailer)
			}
		}))
		srv.Config.Protocols = &p
		srv.Start()
		address := srv.Listener.Addr().String()
		s := settings(&instance{
			Endpoint: config.Endpoint{Network: "tcp", Address: address, Host: address, HTTP2: true},
		})
		s.Outlier = &Outlier{Errors: 5, Eject: time.Hour, Max: .5}
		svc := started(t, s, quiet)
		e := endpoints(svc)[0]
		fail(e, 1)
		x := exchange("POST")
		x.Header = append(x.Header, filters.Field{Name: "Content-Type", Value: "application/grpc"})
		r, err := svc.Send(context.Background(), x, &message.Message{})
		read(t, r, err)
		if n := e.outlier.failures.Load(); n != c.want {
			t.Errorf("%s: %d failures in a row, want %d", c.name, n, c.want)
		}
		srv.Close()
	}
}

// Failures, new configurations and ends of ejections at a time: never more than the share is
// ejected, and in the end none.
func TestEjectionsAtOnce(t *testing.T) {
	o := Outlier{Errors: 1, Eject: time.Millisecond, Max: .5}
	svc, log := outlierService(t, 6, o)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 300 {
				list := endpoints(svc)
				fail(list[(i+w)%len(list)], 2)
			}
		})
	}
	for i := range 100 {
		n := 4 + i%3
		svc.Configure(unconnected(n, o))
		var ejected []int
		svc.outliers.mu.Lock() // or one comes back and another goes while they are read one by one
		for i, e := range endpoints(svc) {
			if e.outlier.ejected.Load() {
				ejected = append(ejected, i)
			}
		}
		svc.outliers.mu.Unlock()
		if len(ejected) > n/2 {
			t.Errorf("ejected %v of %d", ejected, n)
		}
	}
	all.Wait()
	until(t, "all come back", func() bool { return ejectedOf(svc) == nil })
	if log.ejected.Load() == 0 {
		t.Error("none was ejected")
	}
}

// An attempt that succeeds costs nothing where endpoints may be ejected.
func TestObserveAllocatesNothing(t *testing.T) {
	svc, _ := outlierService(t, 2, Outlier{Errors: 5, Eject: time.Hour, Max: .5})
	e, x, ctx := endpoints(svc)[0], exchange("POST"), context.Background()
	r := &stubResponse{}
	if n := testing.AllocsPerRun(1000, func() { e.observe(ctx, x, r, never, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type stubResponse struct{ Response }

func (*stubResponse) Head() (int, filters.Header, int64) { return 200, nil, 0 }

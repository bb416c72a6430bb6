package discovery

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/kubeapi"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

func wrongAuthority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestConfigure: sources that stay go on; one that changes keeps its service's endpoints until the new one answers;
// what is there no more is told of no more.
func TestConfigure(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	b.Configure(clusterOf(t, api))
	b.Configure(clusterOf(t, api))
	other := kubeapi.Start(t)
	other.Fail(kubeapi.Fault{Status: 500}, kubeapi.Fault{Status: 500})
	other.Put(slice("order-1", "10.0.5.5"))
	n := len(api.Requests())
	b.Configure(clusterOf(t, other))
	b.fault("order", "says 500")
	if list := b.Endpoints()["order"]; addresses(list) != "[10.0.0.1:80]" {
		t.Errorf("before the other source answers there is %v", list)
	}
	b.want("order", "10.0.5.5:80")
	api.Put(slice("order-1", "10.0.6.6"))
	if len(api.Requests()) != n || n != 2 {
		t.Errorf("the first source was asked %d times, and %d in all", n, len(api.Requests()))
	}
	b.Configure(services(t, "  order: {endpoints: ['http://h']}"))
	if len(b.Endpoints())+len(b.Status()) != 0 {
		t.Errorf("a service is known whose endpoints are written: %+v", b.Status())
	}
	other.Put(slice("order-1", "10.0.7.7"))
	b.Configure(clusterOf(t, api))
	b.want("order", "10.0.6.6:80")
}

// script is a source of which the test is the other side.
func script(b *bench, name string) *service {
	b.Watcher.mu.Lock()
	defer b.Watcher.mu.Unlock()
	return b.services[name]
}

func endpointsAt(n int) (list []config.Endpoint) {
	for i := range n {
		list = append(list, config.Endpoint{Network: "tcp", Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)})
	}
	return list
}

// missing is a configuration whose source never answers by itself.
func missing(t *testing.T) *config.Config {
	t.Helper()
	return services(t, "  a: {dns: 1h, endpointsFrom: {dns: {name: a.internal, port: 80}}}")
}

// TestUpdatesAreGathered: of many changes at once the last is told, and few before it.
func TestUpdatesAreGathered(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Gather: 20 * time.Millisecond, Resolver: new(directory)})
	b.Configure(missing(t))
	h := script(b, "a")
	began := time.Now()
	for i := range 1000 {
		h.found(endpointsAt(i%3+1), "")
	}
	took := time.Since(began)
	h.found(endpointsAt(1), "")
	b.want("a", "10.0.0.0:80")
	b.mu.Lock()
	updates := b.updates
	b.mu.Unlock()
	if most := int(took/(20*time.Millisecond)) + 3; updates > most {
		t.Errorf("%d updates of 1000 changes in %v, at most %d are due", updates, took, most)
	}
	h.found(endpointsAt(1), "")
	if s := b.status("a"); s.changes < 900 {
		t.Errorf("%d changes are counted", s.changes)
	}
	if n := strings.Count(b.logged(), "have changed"); n > 2+int(took/time.Second) {
		t.Errorf("%d changes within %v are logged", n, took)
	}
}

// TestListIsBounded: a list is sorted, has each endpoint once, and no more than so many.
func TestListIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Resolver: new(directory)})
	b.Configure(missing(t))
	h := script(b, "a")
	list := endpointsAt(3)
	h.found([]config.Endpoint{list[2], list[0], list[1], list[0]}, "")
	b.want("a", "10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80")
	h.found(endpointsAt(endpointsMax+1), "")
	await(t, "the list is bounded", func() bool { return b.status("a").Endpoints == endpointsMax })
	if s := b.status("a"); !strings.Contains(s.Note, "there are 5001 endpoints, the first 5000 are used") {
		t.Errorf("note %q", s.Note)
	}
}

// TestFailuresAreShown: a failure changes no endpoint; its log is throttled, and it shows until it is over.
func TestFailuresAreShown(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Resolver: new(directory)})
	b.Configure(missing(t))
	h := script(b, "a")
	h.found(endpointsAt(2), "")
	now := time.Now()
	for i := range 130 {
		for _, l := range h.fail(fmt.Errorf("gone %d", i), now.Add(time.Duration(i)*time.Second)) {
			l.write(b.o.Logger)
		}
	}
	if n := strings.Count(b.logged(), "stay in use"); n > 4 { // one may be of the lookup
		t.Errorf("%d lines in 130 s", n)
	}
	s := b.status("a")
	if s.Fault != "gone 129" || s.Endpoints != 2 || s.FaultSince.IsZero() {
		t.Errorf("status %+v", s)
	}
	got := metrics(t, b)
	if got["sluice_discovery_up"] != 0 || got["sluice_discovery_endpoints"] != 2 ||
		got["sluice_discovery_failures_total"] < 130 || got["sluice_discovery_changes_total"] != 1 {
		t.Errorf("metrics %v", got)
	}
	h.alive()
	if s := b.status("a"); s.Fault != "" || !s.FaultSince.IsZero() {
		t.Errorf("status %+v", s)
	}
	got = metrics(t, b)
	if got["sluice_discovery_up"] != 1 || got["sluice_discovery_answered_timestamp_seconds"] == 0 {
		t.Errorf("metrics %v", got)
	}
}

// metrics returns those of the only service.
func metrics(t *testing.T, b *bench) map[string]float64 {
	t.Helper()
	r := metric.New()
	r.Add(b.Watcher)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// TestOldSourceIsNotHeard: what a source reports that is not in place any more is nothing.
func TestOldSourceIsNotHeard(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Resolver: new(directory)})
	b.Configure(missing(t))
	old := script(b, "a")
	b.Configure(services(t, "  a: {dns: 1h, endpointsFrom: {dns: {name: b.internal, port: 80}}}"))
	script(b, "a").found(endpointsAt(1), "")
	old.found(endpointsAt(2), "")
	old.failed(errors.New("old"))
	old.alive()
	b.want("a", "10.0.0.0:80")
	if s := b.status("a"); s.Endpoints != 1 || s.Fault == "old" || s.Source != "dns b.internal:80" {
		t.Errorf("status %+v", s)
	}
}

// TestChange: nothing is told of the sources of a configuration before it is committed, and nothing comes of one that
// is aborted.
func TestChange(t *testing.T) {
	t.Parallel()
	api, b := openCluster(t, Options{})
	other := kubeapi.Start(t)
	other.Put(slice("order-1", "10.0.5.5"))
	both := clusterOf(t, other)
	both.Services["stock"] = both.Services["order"]
	abort := b.Begin(both)
	abort.Await(t.Context())
	if found := abort.Found(); len(found) != 1 || addresses(found["stock"]) != "[10.0.5.5:80]" {
		t.Errorf("of services that are new there is %v", found)
	}
	abort.Abort()
	api.Put(slice("order-1", "10.0.0.2"))
	b.want("order", "10.0.0.2:80")
	if got := b.of("stock"); got != "" || len(b.Endpoints()) != 1 || len(b.Status()) != 1 {
		t.Errorf("of what was aborted there is %q, %v", got, b.Endpoints())
	}
	commit := b.Begin(both)
	commit.Await(t.Context())
	if list := b.Endpoints()["order"]; addresses(list) != "[10.0.0.2:80]" {
		t.Errorf("before it is committed there is %v", list)
	}
	commit.Commit()
	b.want("order", "10.0.5.5:80")
	b.want("stock", "10.0.5.5:80")
	await(t, "what is not used is closed", func() bool { return api.Watching() == 0 })
	other.Put(slice("order-1", "10.0.5.6"))
	b.want("order", "10.0.5.6:80")
	b.want("stock", "10.0.5.6:80")
}

// TestDeliverAgain: who begins to listen is told of everything that is known.
func TestDeliverAgain(t *testing.T) {
	t.Parallel()
	w := New(Options{Resolver: new(directory)})
	defer w.Close()
	w.Configure(missing(t))
	b := &bench{Watcher: w}
	script(b, "a").found(endpointsAt(1), "")
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		got := ""
		w.Deliver(ctx, func(service string, list []config.Endpoint) {
			got += service + addresses(list)
			cancel()
		})
		if got != "a[10.0.0.0:80]" {
			t.Errorf("told %q", got)
		}
	}
}

// TestAwait: it waits for the first answer or failure of each source, and no longer than it is told.
func TestAwait(t *testing.T) {
	t.Parallel()
	api := kubeapi.Start(t)
	api.Put(slice("order-1", "10.0.0.1"))
	b := newBench(t, Options{})
	b.Configure(clusterOf(t, api))
	b.Await(t.Context())
	if list := b.Endpoints()["order"]; len(list) != 1 {
		t.Errorf("behind Await there is %v", list)
	}
	b = newBench(t, Options{Resolver: new(directory)})
	b.Configure(missing(t))
	b.Await(t.Context()) // it fails at once
	silent := kubeapi.Start(t)
	silent.Fail(kubeapi.Fault{Hang: true})
	b = newBench(t, Options{})
	b.Configure(clusterOf(t, silent))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	b.Await(ctx)
	if ctx.Err() == nil {
		t.Error("it does not wait for a source that is silent")
	}
}

// TestWatch: the short form tells until its context ends, and not behind it.
func TestWatch(t *testing.T) {
	t.Parallel()
	api := kubeapi.Start(t)
	api.Put(slice("order-1", "10.0.0.1"))
	cfg := clusterOf(t, api)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told, ended := make(chan string, 10), make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, cfg, Options{}, func(service string, endpoints []config.Endpoint) {
			told <- service + addresses(endpoints)
		})
	}()
	if got := <-told; got != "order[10.0.0.1:80]" {
		t.Errorf("told %s", got)
	}
	cancel()
	<-ended
	api.Put(slice("order-1", "10.0.0.2"))
	if len(told) != 0 {
		t.Error("told behind the end")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff{min: 500 * time.Millisecond, max: 30 * time.Second}
	for range 2 {
		for i, want := range []float64{.5, 1, 2, 4, 8, 16, 30, 30, 30} {
			if got := b.next().Seconds(); got < want/2 || got > want*1.5 {
				t.Errorf("wait %d is %v s, want about %v", i, got, want)
			}
		}
		for range 100 {
			if got := b.next(); got > 45*time.Second {
				t.Errorf("a wait of %v", got)
			}
		}
		b.reset()
	}
}

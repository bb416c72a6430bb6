package discovery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/control/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = time.Minute

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// bench is a watcher whose updates are kept.
type bench struct {
	*Watcher
	t *testing.T

	mu      sync.Mutex
	last    map[string]string // addresses, by service
	updates int
	log     bytes.Buffer
}

func (b *bench) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *bench) logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// newBench returns a watcher that is quick; it ends with the test.
func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{t: t, last: map[string]string{}}
	o.Logger = slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Look, o.RetryMin, o.RetryMax = time.Millisecond, time.Millisecond, 20*time.Millisecond
	if o.Gather == 0 {
		o.Gather = time.Millisecond
	}
	b.Watcher = New(o)
	var delivering sync.WaitGroup
	delivering.Go(func() {
		b.Deliver(context.Background(), func(service string, endpoints []config.Endpoint) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.last[service] = addresses(endpoints)
			b.updates++
		})
	})
	t.Cleanup(func() {
		b.Close()
		delivering.Wait()
		if t.Failed() {
			t.Logf("log:\n%s", b.logged())
		}
	})
	return b
}

func (b *bench) of(service string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last[service]
}

func (b *bench) want(service string, list ...string) {
	b.t.Helper()
	want := fmt.Sprint(list)
	deadline := time.Now().Add(waitLimit)
	for b.of(service) != want {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s has %s, want %s; status %+v", service, b.of(service), want, b.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

// fault waits until a source is at fault in such a way.
func (b *bench) fault(service, want string) {
	b.t.Helper()
	await(b.t, service+" is at fault: "+want, func() bool { return strings.Contains(b.status(service).Fault, want) })
}

func (b *bench) sound(service string) {
	b.t.Helper()
	await(b.t, service+" is at fault no more", func() bool {
		s := b.status(service)
		return s.Fault == "" && !s.Answered.IsZero()
	})
}

func (b *bench) status(service string) Status {
	list := b.Status()
	i := slices.IndexFunc(list, func(s Status) bool { return s.Service == service })
	if i < 0 {
		return Status{}
	}
	return list[i]
}

// services returns a configuration with the services that stand in a document.
func services(t *testing.T, document string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("t.yaml", []byte("version: 1\nservices:\n"+document+"\n"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// record is a reporter that keeps what it was told.
type record struct {
	list   []string // addresses of the last list
	hosts  []string
	note   string
	err    error // of the last report
	founds int
}

func (r *record) found(endpoints []config.Endpoint, note string) {
	r.list, r.hosts, r.note, r.err = []string{}, nil, note, nil
	slices.SortFunc(endpoints, func(a, b config.Endpoint) int { return strings.Compare(a.Address, b.Address) })
	for _, e := range endpoints {
		r.list, r.hosts = append(r.list, e.Address), append(r.hosts, e.Host)
	}
	r.founds++
}

func (r *record) alive()           { r.err = nil }
func (r *record) failed(err error) { r.err = err }

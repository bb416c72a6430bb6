package xds

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/sluice-gateway/sluice/bench/kit/xdsclient"
	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/nativedialect"
	"github.com/sluice-gateway/sluice/control/source"
)

// arrivalLimit is how long a test waits for what has to come: the machine may be busy.
const arrivalLimit = 30 * time.Second

// given is a source whose documents the test gives.
type given struct {
	first *config.Document
	sinks chan source.DocumentSink
}

func (g *given) First(context.Context) (*config.Document, error) { return g.first, nil }

func (g *given) Watch(ctx context.Context, sink source.DocumentSink) error {
	g.sinks <- sink
	<-ctx.Done()
	return nil
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a control plane under test.
type running struct {
	t       testing.TB
	plane   *controlPlane
	sink    source.DocumentSink
	log     *logText
	address string
	stop    func()
}

// control is written first in the documents of tests: ports of their own.
const control = `version: 1
admin: {address: "127.0.0.1:0"}
control: {listen: {address: "127.0.0.1:0"}}
`

// documentOf is a document with a static response of a status.
func documentOf(head string, status int) string {
	return fmt.Sprintf("%sroutes: [{name: a, match: {path: /a}, respond: {status: %d}}]\n", head, status)
}

func parse(t testing.TB, text string) *config.Document {
	t.Helper()
	d, err := config.ParseDocument("t.yaml", []byte(text), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func start(t testing.TB, text string, change ...func(*controlPlane)) *running {
	t.Helper()
	return startDocument(t, parse(t, text), change...)
}

// startDocument starts a control plane; it is stopped with the test.
func startDocument(t testing.TB, d *config.Document, change ...func(*controlPlane)) *running {
	t.Helper()
	src := &given{first: d, sinks: make(chan source.DocumentSink, 1)}
	log := new(logText)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	r := &running{t: t, log: log}
	o := Options{
		Source: src, Logger: slog.New(slog.NewTextHandler(log, nil)), OnReady: func(a Addresses) { ready <- a },
	}
	go func() {
		ended <- runWith(ctx, o, func(c *controlPlane) {
			r.plane = c
			c.bounds.tick = 20 * time.Millisecond
			for _, f := range change {
				f(c)
			}
		})
	}()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the control plane ended with %v", err)
			}
		})
	}
	select {
	case a := <-ready:
		r.address = a.Control
	case err := <-ended:
		ended <- err
		t.Fatalf("the control plane did not start: %v", err)
	case <-time.After(arrivalLimit):
		t.Fatal("the control plane did not start")
	}
	r.sink = <-src.sinks
	t.Cleanup(r.stop)
	return r
}

// apply gives a document; it has to be taken.
func (r *running) apply(text string) *config.Document {
	r.t.Helper()
	d := parse(r.t, text)
	if err := r.sink.Apply(d, false); err != nil {
		r.t.Fatalf("refused: %v", err)
	}
	return d
}

func nativeNode(id string) *core.Node {
	return &core.Node{Id: id, UserAgentName: nativedialect.UserAgent}
}

// gateway connects a client of the native dialect.
func (r *running) gateway(id string, change ...func(*xdsclient.Options)) *xdsclient.Client {
	r.t.Helper()
	return r.client(xdsclient.Options{
		Node:  nativeNode(id),
		Names: map[string][]string{resource.ExtensionConfigType: {nativedialect.ResourceName}},
	}, change...)
}

func (r *running) client(o xdsclient.Options, change ...func(*xdsclient.Options)) *xdsclient.Client {
	r.t.Helper()
	o.Address = r.address
	for _, f := range change {
		f(&o)
	}
	c, err := xdsclient.Dial(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// awaitVersion waits for a client to have a version of a type.
func awaitVersion(t testing.TB, c *xdsclient.Client, typeURL, want string) {
	t.Helper()
	timeout := time.After(arrivalLimit)
	for {
		got, changed := c.Version(typeURL)
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			s, _ := c.State()
			t.Fatalf("version %q of %s, want %q; stream: %v", got, typeURL, want, s.Err)
		}
	}
}

// awaitError waits for the end of a client's stream.
func awaitError(t testing.TB, c *xdsclient.Client) error {
	t.Helper()
	timeout := time.After(arrivalLimit)
	for {
		s, changed := c.State()
		if s.Err != nil {
			return s.Err
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("the stream did not end")
		}
	}
}

// await waits until the status is as it has to be.
func (r *running) await(what string, is func(Status) bool) Status {
	r.t.Helper()
	deadline := time.Now().Add(arrivalLimit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s := r.plane.Status()
		if is(s) {
			return s
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no status with %s: %+v", what, s)
		}
		<-tick.C
	}
}

func (r *running) awaitStable(version string) {
	r.t.Helper()
	r.await("stable "+version, func(s Status) bool { return s.Rollout.Stable == version })
}

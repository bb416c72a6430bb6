package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/source"
)

// running is a gateway in this process.
type running struct {
	t      *testing.T
	file   string
	at     Addresses
	reload chan struct{}
	stop   func() error
	logs   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const head = `version: 1

listen: {http: "127.0.0.1:0", maxHeader: 4KiB, maxBody: 64KiB, trustedProxies: [127.0.0.2/32]}
admin: {address: "127.0.0.1:0"}
store: {memory: {}}
identity:
  - header: {name: X-User, trusted: [127.0.0.1/32]}
`

func start(t *testing.T, text string) *running {
	t.Helper()
	return startWith(t, text, 0)
}

func startWith(t *testing.T, text string, drainLimit time.Duration) *running {
	t.Helper()
	return startOptions(t, text, Options{DrainLimit: drainLimit})
}

// startOptions starts a gateway with options that have no logger; without a source it has the text's.
func startOptions(t *testing.T, text string, o Options) *running {
	t.Helper()
	g := &running{t: t, file: filepath.Join(t.TempDir(), "sluice.yaml"), reload: make(chan struct{}),
		logs: &lockedBuffer{}}
	g.configure(text)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		if o.Source == nil {
			o.Source = &source.File{Path: g.file, Reload: g.reload}
		}
		o.OnReady, o.Logger = func(a Addresses) { ready <- a }, slog.New(slog.NewTextHandler(g.logs, nil))
		ended <- Run(ctx, o)
	}()
	select {
	case g.at = <-ready:
	case err := <-ended:
		t.Fatalf("the gateway did not come up: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway did not come up")
	}
	g.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("the gateway ended with %v", err)
		}
		if t.Failed() {
			t.Log(g.logs.String())
		}
	})
	return g
}

func (g *running) configure(text string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// metric returns a metric's value, -1 without it.
func (g *running) metric(name string) float64 {
	g.t.Helper()
	for line := range strings.Lines(fetch(g.t, "http://"+g.at.Admin+"/metrics", "GET", "").body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return v
		}
	}
	return -1
}

type got struct {
	status int
	header http.Header
	body   string
}

func (a got) reason() string { return a.header.Get("Sluice-Reason") }

func (g *running) do(method, path, body string, header ...string) got {
	g.t.Helper()
	return fetch(g.t, "http://"+g.at.HTTP+path, method, body, header...)
}

func fetch(t *testing.T, url, method, body string, header ...string) got {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header, string(b)}
}

var client = &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 30 * time.Second,

	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// raw sends bytes as they are and returns what comes until the connection is closed.
func (g *running) raw(message string) string {
	g.t.Helper()
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, message); err != nil {
		g.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

// service is an upstream that records what it saw.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
	body []string
}

func newService(t *testing.T, h http.HandlerFunc) *service {
	s := &service{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen, s.body = append(s.seen, r), append(s.body, string(b))
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) last(t *testing.T) (*http.Request, string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		t.Fatal("the service saw nothing")
	}
	return s.seen[len(s.seen)-1], s.body[len(s.body)-1]
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Sluice-Reason", "spoofed")
	w.Header().Set("Idempotent-Replayed", "true")
	w.Header().Set("X-Service", "1")
	fmt.Fprintf(w, "%s %s", r.Method, r.RequestURI)
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come about")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// pythonPackages is a virtual environment with the packages of python/requirements.txt.
var pythonPackages struct {
	once sync.Once
	dir  string
	err  error
}

// pythonScript is a command that runs a script of python/ with the packages installed.
func pythonScript(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	python := needed(t, "python3")
	pythonPackages.once.Do(func() { pythonPackages.err = installPythonPackages(python) })
	if pythonPackages.err != nil {
		t.Fatal(pythonPackages.err)
	}
	return exec.Command(filepath.Join(pythonPackages.dir, "bin", "python"), filepath.Join("python", script))
}

func installPythonPackages(python string) (err error) {
	if pythonPackages.dir, err = os.MkdirTemp("", "sluice-interop-"); err != nil {
		return err
	}
	for _, args := range [][]string{
		{python, "-m", "venv", pythonPackages.dir},
		{filepath.Join(pythonPackages.dir, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check",
			"--no-deps",
			"--requirement", filepath.Join("python", "requirements.txt")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", args, err, out)
		}
	}
	return nil
}

// stripeSaid is a line of node/stripe.js and python/stripe_client.py.
type stripeSaid struct {
	ID                         string
	Error, Type, Code, Message string
	Status                     int
}

// shop stands in for Stripe behind a gateway.
type shop struct {
	charges  atomic.Int64
	begun    chan struct{} // has an element when a customer is being made
	released chan struct{} // and one when that may end
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/v1/charges":
		fmt.Fprintf(w, `{"object":"charge","id":"ch_%d"}`, s.charges.Add(1))
		return
	case "/v1/customers":
		s.begun <- struct{}{}
		select {
		case <-s.released:
		case <-r.Context().Done():
		}
	case "/v1/balance":
		select {
		case <-s.begun:
		case <-r.Context().Done():
		}
	case "/v1/events/release":
		s.released <- struct{}{}
	}
	io.WriteString(w, `{"object":"thing","id":"done"}`)
}

// Stripe's own libraries raise for each refusal of a gateway what they raise for Stripe's, and never take it for a
// success. What they repeat by themselves is done once.
func TestStripesLibraries(t *testing.T) {
	t.Parallel()
	for name, library := range map[string]struct {
		command func(t *testing.T) *exec.Cmd
		raises  map[string]string // by the word in the table below
	}{
		"node": {func(t *testing.T) *exec.Cmd { return nodeScript(t, "stripe.js") }, map[string]string{
			"idempotency": "StripeIdempotencyError", "limit": "StripeRateLimitError", "api": "StripeAPIError"}},
		"python": {func(t *testing.T) *exec.Cmd { return pythonScript(t, "stripe_client.py") }, map[string]string{
			"idempotency": "IdempotencyError", "limit": "RateLimitError", "api": "APIError"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &shop{begun: make(chan struct{}, 1), released: make(chan struct{}, 1)}
			g := startGateway(t, stripeRoutes(startService(t, s.ServeHTTP), nobodyListens(t)))
			ask := func(address, what string) []stripeSaid {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					t.Fatal(err)
				}
				cmd := library.command(t)
				cmd.Args = append(cmd.Args, host, port, what)
				var list []stripeSaid
				for _, line := range lines(t, cmd) {
					var said stripeSaid
					if err := json.Unmarshal([]byte(line), &said); err != nil {
						t.Fatalf("%s: %q: %v", what, line, err)
					}
					list = append(list, said)
				}
				return list
			}
			for _, c := range stripeCases {
				said := ask(g.http, c.name)
				if len(said) != len(c.want) {
					t.Fatalf("%s: %+v", c.name, said)
				}
				for i, want := range c.want {
					got := said[i]
					if want.code == "" {
						if got.Error != "" || got.ID == "" {
							t.Errorf("%s, %d: %+v, want a result", c.name, i, got)
						}
						continue
					}
					if got.Error != library.raises[want.raises] || got.Type != want.kind || got.Code != want.code ||
						got.Status != want.status || got.Message == "" {
						t.Errorf("%s, %d: %+v, want %s with %d %s", c.name, i, got, library.raises[want.raises],
							want.status, want.code)
					}
				}
				if c.name == "replay" && said[0].ID != said[1].ID {
					t.Errorf("a repeat gets another result: %+v", said)
				}
			}
			before := s.charges.Load()
			said := ask(cutFirst(t, g.http), "retry")
			if n := s.charges.Load() - before; n != 1 || len(said) != 1 || said[0].Error != "" ||
				said[0].ID != fmt.Sprintf("ch_%d", before+1) {
				t.Errorf("a request whose response was lost was done %d times, and the library says %+v", n, said)
			}
		})
	}
}

type stripeWant struct {
	raises, kind, code string // no code: a result; kind is the type of the error member
	status             int
}

var stripeCases = []struct {
	name string
	want []stripeWant // of each call
}{
	{"replay", []stripeWant{{}, {}}},
	{"mismatch", []stripeWant{{}, {"api", "idempotency_error", "idempotency-key-reused", 422}}},
	{"invalid", []stripeWant{{"idempotency", "idempotency_error", "idempotency-key-invalid", 400}}},
	{"missing", []stripeWant{{"idempotency", "idempotency_error", "idempotency-key-missing", 400}}},
	{"progress", []stripeWant{{"api", "idempotency_error", "request-in-progress", 409}, {}}},
	{"limited", []stripeWant{{}, {"limit", "rate_limit_error", "rate-limited", 429}}},
	{"failing", []stripeWant{{"api", "api_error", "upstream-unreachable", 502},
		{"api", "api_error", "breaker-open", 503}}},
}

func stripeRoutes(service, nobody string) string {
	return fmt.Sprintf(`limits: {one: {scope: local, rate: 1/h, burst: 1}}
services:
  a: {endpoints: ["http://%s"], timeout: 60s}
  gone: {endpoints: ["http://%s"], breaker: {minRequests: 1, openFor: 60s}}
routes:
  - {name: charges, match: {path: /v1/charges}, service: a, idempotency: {required: true}}
  - {name: plans, match: {path: /v1/plans}, service: a, idempotency: {required: true}}
  - {name: customers, match: {path: /v1/customers}, service: a, idempotency: {whileInFlight: {wait: 1ms}}}
  - {name: products, match: {path: /v1/products}, service: a, limits: [one]}
  - {name: refunds, match: {path: /v1/refunds}, service: gone, idempotency: {}}
  - {name: all, match: {path: /**}, service: a}
`, service, nobody)
}

// nobodyListens returns an address that this process holds and at which connections are refused.
func nobodyListens(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) }) // until then nobody else gets the port, to listen on or to call from
	syscall.CloseOnExec(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

// cutFirst passes connections on to an address, and cuts the first one when its first response comes.
func cutFirst(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pass(c, to, first)
		}
	}()
	return l.Addr().String()
}

func pass(c net.Conn, to string, cut bool) {
	defer c.Close()
	g, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer g.Close()
	go io.Copy(g, c)
	if cut {
		_, _ = g.Read(make([]byte, 1)) // the request has been done by then
		return
	}
	_, _ = io.Copy(c, g)
}

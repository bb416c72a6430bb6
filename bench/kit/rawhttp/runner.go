package rawhttp

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// hangLimit is how long an answer or a close is waited for. It is short because a gateway that
	// will not answer should not keep its client; on a busy machine it may be too short, so the
	// results say whether it was reached and the case can be run again.
	hangLimit = 1500 * time.Millisecond
	// ioLimit ends what cannot go on: writing to nobody, a probe without a response.
	ioLimit = 20 * time.Second
	// quiet is how long nothing more may come after the last response that was waited for.
	quiet = 200 * time.Millisecond
)

// Runner is a gateway with a service of its own; it runs one case at a time.
type Runner struct {
	gateway string // host:port
	up      upstream
	probes  int
}

// NewRunner serves as the service on l for the gateway at that address.
func NewRunner(gateway string, l net.Listener) *Runner {
	runner := &Runner{gateway: gateway}
	runner.up.begin(new(Case))
	go runner.up.serve(l)
	return runner
}

// Run fires a case and judges what came of it. An error means that the gateway cannot be reached.
func (l *Runner) Run(c *Case) (Result, error) {
	l.up.begin(c)
	got, err := l.fire(c, waitBudget{hangLimit, quiet})
	if err != nil {
		return Result{}, fmt.Errorf("rawhttp: %s: %w", c.Name, err)
	}
	probe := l.probe()
	r := judge(c, observation{client: got.bytes, closed: got.closed, upstream: l.up.end(), probe: probe})
	r.TimedOut = got.timedOut
	return r, nil
}

// received is what a client got on one connection.
type received struct {
	mu       sync.Mutex
	bytes    []byte
	closed   bool // by the gateway
	timedOut bool // what was waited for did not come
}

// waitBudget is how long a response is waited for, and how long for what must not come after it.
type waitBudget struct{ limit, quiet time.Duration }

// fire writes the case's bytes and reads until the gateway closes, nothing more comes, or it hangs.
func (l *Runner) fire(c *Case, p waitBudget) (got *received, err error) {
	conn, err := net.Dial("tcp", l.gateway)
	if err != nil {
		return nil, err
	}
	got = new(received)
	news := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		got.readAll(conn, news)
	}()
	c.Raw.write(conn)
	if c.HalfClose {
		_ = conn.(*net.TCPConn).CloseWrite() // the gateway may have closed it already
	}
	got.wait(c, p, news, ended)
	conn.Close()
	<-ended
	return got, nil
}

func (r *received) readAll(conn net.Conn, news chan<- struct{}) {
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		r.mu.Lock()
		r.bytes = append(r.bytes, b[:n]...)
		r.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

func (r *received) wait(c *Case, p waitBudget, news, ended <-chan struct{}) {
	deadline := time.Now().Add(p.limit)
	for {
		enough := !c.Closes && !c.Problem && r.isWhole(c)
		left := time.Until(deadline)
		if enough {
			left = min(left, p.quiet)
		}
		select {
		case <-news:
		case <-ended:
			r.closed = true
			return
		case <-time.After(left):
			r.timedOut = !enough
			return
		}
	}
}

// isWhole reports whether every request that the case sends has its whole response.
func (r *received) isWhole(c *Case) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := responses(r.bytes, c.Methods, false)
	return len(finals(all)) >= len(c.Methods) && all[len(all)-1].complete
}

// probe asks for a path that nobody else asks for, on a new connection, and says what is wrong with
// the response.
func (l *Runner) probe() string {
	var fault string
	for range 2 { // the second time when the service's connections had to be made anew
		l.probes++
		path := fmt.Sprint(probePath, l.probes)
		c := &Case{Methods: []string{"GET"},
			Raw: Script{{Bytes: []byte("GET " + path + " HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n")}}}
		got, err := l.fire(c, waitBudget{ioLimit, 0})
		if err != nil {
			return err.Error()
		}
		ends := finals(responses(got.bytes, c.Methods, got.closed))
		if len(ends) == 0 {
			return "the probe got no response"
		}
		last := ends[len(ends)-1]
		if strings.Contains(string(last.body), path+" ") {
			return ""
		}
		fault = fmt.Sprintf("the probe of %s got %d %.60q", path, last.status, last.body)
		if last.status < 502 || last.status > 504 {
			return fault
		}
	}
	return fault
}

// Package internalserver serves an address that operators, probes and the coordinator call: it bounds
// its connections, and in time what a handler waits for on one.
package internalserver

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of such an address.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 75 * time.Second
	bodyTimeout   = 15 * time.Second // of a request's whole body
	writeTimeout  = 30 * time.Second // of one write of a response
	bodyBytesMax  = 128 << 20        // a record may be settled with a response of 64 MiB; handlers take less
)

// New makes the server of such an address and bounds the connections of its listener.
func New(h http.Handler, l net.Listener, connections int, logger *slog.Logger) (*http.Server, net.Listener) {
	b := newBoundedListener(l, connections)
	return &http.Server{
		Handler: &timely{h, bodyTimeout, writeTimeout}, ConnState: b.changed,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}, b
}

// timely bounds in time what a handler waits for on its connection: the whole body of the request,
// and each write of the response. A response that goes on for long, as events do, is none the
// shorter for it.
type timely struct {
	handler http.Handler
	body    time.Duration
	write   time.Duration
}

func (t *timely) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if r.ContentLength != 0 {
		_ = c.SetReadDeadline(time.Now().Add(t.body)) // a connection that has no deadlines is no TCP one
		r.Body = &timelyBody{http.MaxBytesReader(w, r.Body, bodyBytesMax), c}
	}
	out := &timelyWriter{w, c, t.write}
	defer out.extend() // what is buffered is written behind the handler
	t.handler.ServeHTTP(out, r)
}

// timelyBody lifts the deadline at its end: the server goes on reading to see the client leave.
type timelyBody struct {
	io.ReadCloser
	controller *http.ResponseController
}

func (b *timelyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.controller.SetReadDeadline(time.Time{})
	}
	return n, err
}

type timelyWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration
}

func (w *timelyWriter) extend() { _ = w.controller.SetWriteDeadline(time.Now().Add(w.timeout)) }

func (w *timelyWriter) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

// FlushError is for [http.ResponseController].
func (w *timelyWriter) FlushError() error {
	w.extend()
	return w.controller.Flush()
}

// Unwrap is for [http.ResponseController].
func (w *timelyWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// boundedListener bounds the connections that are open at once. When all are, the one that has been
// without a request for longest makes room; else the next one waits in the kernel's queue.
type boundedListener struct {
	net.Listener
	slots  chan struct{}
	freed  chan struct{} // has room for one: a connection has become idle
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	idle map[net.Conn]time.Time // since when; of a new one, when it ceases to be new
}

func newBoundedListener(l net.Listener, n int) *boundedListener {
	return &boundedListener{
		Listener: l, slots: make(chan struct{}, n), freed: make(chan struct{}, 1), closed: make(chan struct{}),
		idle: map[net.Conn]time.Time{},
	}
}

func (b *boundedListener) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		select {
		case b.slots <- struct{}{}:
			return c, nil
		default:
		}
		b.closeIdle()
		timer := time.NewTimer(newFor)
		select {
		case b.slots <- struct{}{}:
			timer.Stop()
			return c, nil
		case <-b.freed:
		case <-timer.C: // one that was closed may have had its request by then: it is served first
		case <-b.closed:
			c.Close()
			return nil, net.ErrClosed
		}
	}
}

func (b *boundedListener) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// newFor is how long a new connection has to begin its request before it makes room for others.
const newFor = 50 * time.Millisecond

// closeIdle closes the connection that has been idle for longest, if there is one. Its server finds
// it closed and says so.
func (b *boundedListener) closeIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	var oldest net.Conn
	for c, since := range b.idle {
		if oldest == nil || since.Before(b.idle[oldest]) {
			oldest = c
		}
	}
	if oldest != nil && time.Now().After(b.idle[oldest]) {
		delete(b.idle, oldest)
		oldest.Close()
	}
}

// changed is the server's ConnState.
func (b *boundedListener) changed(c net.Conn, s http.ConnState) {
	b.mu.Lock()
	switch s {
	case http.StateNew:
		b.idle[c] = time.Now().Add(newFor)
	case http.StateIdle:
		b.idle[c] = time.Now()
	default:
		delete(b.idle, c)
	}
	b.mu.Unlock()
	switch s {
	case http.StateClosed, http.StateHijacked:
		<-b.slots
	case http.StateIdle:
		select {
		case b.freed <- struct{}{}:
		default:
		}
	}
}

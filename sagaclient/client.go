package sagaclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultTimeout is the limit of one call to the coordinator without [Options.Timeout].
const DefaultTimeout = 10 * time.Second

const (
	responseBytesMax = 8 << 20
	reasonBytesMax   = 300
)

// Options are the settings of a client.
type Options struct {
	// Endpoints are the base URLs of the coordinator's HTTP interface, http://host:port; at least
	// one. They share one store.
	Endpoints []string
	// HTTP sends the requests. It must not repeat or redirect them. nil: a client of its own, with
	// a pool for many requests at once.
	HTTP *http.Client
	// Timeout bounds one call, beside the caller's context. 0: [DefaultTimeout].
	Timeout time.Duration
	// Now is the clock; nil: time.Now. It only ends [Client.Wait].
	Now func() time.Time
	// Breaker keeps calls from a coordinator that fails; nil: every call is made.
	Breaker Breaker
}

// Breaker decides whether calls are made to a coordinator that fails. Its methods are called by many
// goroutines at once.
type Breaker interface {
	// Allow returns why no call is made now, which then is [ErrCoordinatorDown] with that cause. nil:
	// the call is made, and Done follows.
	Allow() error
	// Done is told what a call came to: the status of the response, or the error without one.
	Done(status int, err error)
}

// Client talks to one coordinator through its endpoints. It is safe for concurrent use.
type Client struct {
	endpoints []string
	http      *http.Client
	timeout   time.Duration
	now       func() time.Time
	breaker   Breaker
	traces    bool          // the transport calls GotConn
	preferred atomic.Uint32 // the endpoint that was reached last
}

// New makes a client; it opens no connection. The error names an invalid endpoint.
func New(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("sagaclient: no endpoint")
	}
	c := &Client{http: o.HTTP, timeout: o.Timeout, now: o.Now, breaker: o.Breaker}
	for _, e := range o.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("sagaclient: endpoint %q is not http://host:port", e)
		}
		c.endpoints = append(c.endpoints, strings.TrimSuffix(strings.TrimSuffix(e, "/"), "/api/dtmsvr"))
	}
	if c.http == nil {
		c.http = newHTTP()
	}
	_, standard := c.http.Transport.(*http.Transport)
	c.traces = standard || c.http.Transport == nil
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// newHTTP has no proxy, follows no redirect and keeps enough idle connections for a sale: the
// default keeps two a host.
func newHTTP() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConns:        1024,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     60 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Submit submits the saga, once. nil: the coordinator has it. Else the error is one of
// [ErrInvalid], [ErrCoordinatorDown], [ErrRejected] and [ErrUnknown].
//
// With [Saga.Wait] the coordinator responds after a first pass over the steps; nil still only says
// that it has the saga.
func (c *Client) Submit(ctx context.Context, s *Saga) error {
	done, err := c.SubmitOnce(ctx, s)
	if err == nil && done {
		err = c.readBack(ctx, s.GID)
	}
	return err
}

// SubmitOnce is Submit for a caller that queries the saga next, or sees its steps itself. done: the
// coordinator says that it has the saga, and after a waiting submit that all steps are done; that it
// has stored the saga is not checked then, and DTM v1.19.0 runs one that it failed to store.
func (c *Client) SubmitOnce(ctx context.Context, s *Saga) (done bool, err error) {
	return c.submit(ctx, s, false)
}

// SubmitNew is SubmitOnce for a gid that nobody may have submitted before: the error is [ErrKnown] when the coordinator
// has it, in whatever state, where DTM would run what is not done of it once more. Only sluice-dtm looks; any other
// coordinator is [ErrNotOffered].
func (c *Client) SubmitNew(ctx context.Context, s *Saga) (done bool, err error) {
	return c.submit(ctx, s, true)
}

func (c *Client) submit(ctx context.Context, s *Saga, unknown bool) (done bool, err error) {
	body, err := s.encode()
	if err != nil {
		return false, &Error{Op: "submit", GID: s.GID, Kind: ErrInvalid, Err: err}
	}
	target := "/api/dtmsvr/submit"
	if unknown {
		target = "/api/dtmsvr/submitNew"
	}
	status, response, err := c.do(ctx, http.MethodPost, target, body)
	failed := &Error{Op: "submit", GID: s.GID, Kind: ErrUnknown, Status: status, Err: err}
	switch {
	case errors.Is(err, errNotSent):
		failed.Kind = ErrCoordinatorDown
		return false, failed
	case err != nil:
		return false, failed
	case unknown && status == http.StatusNotFound:
		failed.Kind = ErrNotOffered
		return false, failed
	case unknown && status == http.StatusPreconditionFailed:
		failed.Kind = ErrKnown
		return false, failed
	case status == http.StatusConflict && strings.HasPrefix(message(response), "current status '"):
		failed.Kind, failed.Reason = ErrRejected, message(response)
		return false, failed
	case status == http.StatusOK:
		return true, nil
	case status == http.StatusConflict, status == http.StatusTooEarly:
		// After a waiting submit, 409 only says that the saga has not succeeded yet
		// (trans_process.go): it was accepted.
		return false, c.readBack(ctx, s.GID)
	}
	// After a 500 too: DTM responds so when it fails after it has stored the saga.
	failed.Reason = message(response)
	return false, failed
}

// readBack checks that the coordinator stored what it accepted.
func (c *Client) readBack(ctx context.Context, gid string) error {
	_, err := c.Query(ctx, gid)
	if err == nil {
		return nil
	}
	// What the query came to is not wrapped: that the coordinator is down now, or does not know the
	// gid, does not mean that nothing was submitted.
	accepted := &Error{Op: "submit", GID: gid, Kind: ErrUnknown, Err: fmt.Errorf("it was accepted, but: %v", err)}
	if ctx.Err() != nil {
		accepted.Err = fmt.Errorf("it was accepted, but: %w", ctx.Err())
	}
	return accepted
}

// do makes one request and reads the response. Another endpoint is tried only when the connection
// to the one before was not made, or has broken under a GET, which may be sent twice. The error is
// errNotSent when no connection to any of them was made, else something may have been sent.
func (c *Client) do(ctx context.Context, method, target string, body []byte) (status int, response []byte, err error) {
	if c.breaker != nil {
		if err := c.breaker.Allow(); err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errNotSent, err)
		}
		defer func() { c.breaker.Done(status, err) }()
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	first := c.preferred.Load()
	var down, broken error
	for i := range c.endpoints {
		n := (first + uint32(i)) % uint32(len(c.endpoints))
		var sent bool
		status, response, sent, err = c.once(ctx, method, c.endpoints[n]+target, body)
		if err == nil || sent && (method != http.MethodGet || ctx.Err() != nil) {
			c.preferred.Store(n)
			return status, response, err
		}
		if down = err; sent {
			broken = err
		}
	}
	if broken != nil {
		return 0, nil, broken
	}
	return 0, nil, fmt.Errorf("%w: %w", errNotSent, down)
}

// errNotSent: no endpoint was reached.
var errNotSent = errors.New("nothing was sent")

// once makes one request. sent is false only where it is certain that nothing was sent.
func (c *Client) once(ctx context.Context, method, target string, body []byte) (
	status int, response []byte, sent bool, err error,
) {
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	var reader io.Reader // a nil *bytes.Reader would be a body
	if body != nil {
		reader = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(traced, method, target, reader)
	if err != nil {
		return 0, nil, false, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	// The transport uses a second connection for a POST only when no byte was written to the first.
	resp, err := c.http.Do(r)
	if err != nil {
		var op *net.OpError
		dial := errors.As(err, &op) && op.Op == "dial"
		return 0, nil, !dial && (connected.Load() || !c.traces), err
	}
	defer resp.Body.Close()
	response, err = io.ReadAll(io.LimitReader(resp.Body, responseBytesMax+1))
	if err == nil && len(response) > responseBytesMax {
		err = fmt.Errorf("response is longer than %d bytes", responseBytesMax)
	}
	return resp.StatusCode, response, true, err
}

// message returns the coordinator's message, truncated.
func message(response []byte) string {
	var a struct {
		Message string `json:"message"`
	}
	text := string(response)
	if json.Unmarshal(response, &a) == nil && a.Message != "" {
		text = a.Message
	}
	if len(text) > reasonBytesMax {
		text = strings.ToValidUTF8(text[:reasonBytesMax], "") + "…"
	}
	return text
}

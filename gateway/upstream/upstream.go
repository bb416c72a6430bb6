package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// How an attempt fails. The cause is wrapped beside it.
var (
	// ErrUnreachable: nothing was sent.
	ErrUnreachable = errors.New("upstream: unreachable")
	// ErrFailed: the connection broke, or the answer was not HTTP, after something was sent.
	ErrFailed = errors.New("upstream: failed")
	// ErrTimeout: no whole answer in time, after something was sent.
	ErrTimeout = errors.New("upstream: timeout")
	// ErrClientGone: the caller's context ended.
	ErrClientGone = errors.New("upstream: client gone")
	// ErrClientBody: the client's body could not be read to its end; the service got a part of it.
	ErrClientBody = errors.New("upstream: client body")
)

// Settings of a service. The configuration model has the defaults and checks them.
type Settings struct {
	Name           string
	Endpoints      []config.Endpoint
	TLS            *tls.Config // for the endpoints that have it; nil is the system's roots
	Timeout        time.Duration
	ConnectTimeout time.Duration
	Attempts       int // repeats beyond the first attempt
	OnConnect      bool
	OnReset        bool
	Budget         float64 // share of requests, 0 to 1
	Health         *Health // nil: no endpoint is asked how it is
}

// Service is one service's endpoints and connections. It is safe for concurrent use.
type Service struct {
	settings  Settings
	endpoints []*endpoint
	budget    budget
	metrics   Metrics

	stop   context.CancelFunc // of the health checks
	checks sync.WaitGroup
}

// Metrics counts what happens. Every member is set.
type Metrics struct {
	Connects        filters.Counter
	ConnectFailures filters.Counter
	Retries         filters.Counter
	Duration        filters.Observer // seconds to the answer's head
	// Health is told how an endpoint is: when it is first asked, and when that changes. Unwatched is told when it is asked no more.
	Health    func(endpoint string, healthy bool)
	Unwatched func(endpoint string)
}

// Response is a service's answer: its head, and the body to be read to its end. Close is called once; strings of the answer are
// good until then.
type Response interface {
	// Head returns the status, the fields without those of the connection, and the length of the body: -1 when it is not known, and of an
	// answer without a body what it says of one.
	Head() (status int, h filters.Header, length int64)
	io.ReadCloser
	// Next returns what has come already and was not read, nil when there is nothing.
	Next() []byte
	// Trailer returns the fields behind the body, after its end.
	Trailer() filters.Header
	// Extend gives the attempt more time while the body is read: that which the client took is not the service's.
	Extend(time.Duration)
	// Uploading reports whether the request's body still goes out, which Close may wait for.
	Uploading() bool
}

// New returns a service, which checks its endpoints' health until Close.
func New(s Settings, m Metrics) *Service {
	svc := &Service{settings: s, metrics: m, budget: budget{share: s.Budget}}
	for _, e := range s.Endpoints {
		svc.endpoints = append(svc.endpoints, newEndpoint(e, svc))
	}
	ctx, stop := context.WithCancel(context.Background())
	svc.stop = stop
	if s.Health != nil {
		for _, e := range svc.endpoints {
			svc.checks.Go(func() { e.watchHealth(ctx, *s.Health) })
		}
	}
	return svc
}

// Name returns the service's name.
func (s *Service) Name() string { return s.settings.Name }

// Close ends the health checks and closes the idle connections; those in use close at their end.
func (s *Service) Close() {
	s.stop()
	s.checks.Wait()
	for _, e := range s.endpoints {
		e.close()
	}
}

// Send dispatches the exchange to the service and returns the answer, to be read and closed. The error is one of the
// package's, with its cause. Exchange.Dispatched tells afterwards whether anything was sent.
func (s *Service) Send(ctx context.Context, x *filters.Exchange, m *message.Message) (Response, error) {
	now := x.Received.Add(time.Since(x.Received)) // one look at the clock, where time.Now takes two
	if x.Received.IsZero() {
		now = time.Now()
	}
	s.budget.request(now)
	var failed *endpoint
	for repeat := 0; ; repeat++ {
		e := s.pick(failed)
		answer, again, err := s.attempt(ctx, e, x, m, now)
		failed = e
		if x.Dispatched && errors.Is(err, ErrUnreachable) { // an attempt before this one reached the service
			err = fmt.Errorf("%w: %v", ErrFailed, err)
		}
		if err == nil || again == 0 || repeat >= s.settings.Attempts || ctx.Err() != nil {
			return answer, err
		}
		if again == againConnect && !s.settings.OnConnect || again == againReset && !s.settings.OnReset {
			return answer, err
		}
		if m.Stream != nil && x.Dispatched { // a part of it is gone
			return answer, err
		}
		if !s.budget.take() {
			return answer, err
		}
		if x.Dispatched && x.Logical.Key != "" {
			if !x.BeginAttempt() { // nobody would know of it
				return answer, err
			}
			x.Inject.Set("Sluice-Attempt", strconv.Itoa(x.Logical.Attempt))
		} else if x.Logical.Claim != nil && !x.Logical.Claim.Valid(time.Now()) { // somebody else may have it by now
			return answer, err
		}
		s.metrics.Retries.Inc()
		now = time.Now()
	}
}

// again says by which condition an attempt may be repeated.
type again uint8

const (
	againConnect again = iota + 1
	againReset
)

func (s *Service) attempt(ctx context.Context, e *endpoint, x *filters.Exchange, m *message.Message, began time.Time) (Response, again, error) {
	before := x.Dispatched
	var answer Response
	var used bool
	var err error
	if e.HTTP2 {
		if answer, err = e.h2.exchange(ctx, x, m); err == nil {
			s.metrics.Duration.Observe(time.Since(began).Seconds())
		}
	} else {
		answer, used, err = e.exchange(ctx, x, m, began)
	}
	if err == nil {
		return answer, 0, nil
	}
	var f *message.Failure
	if !errors.As(err, &f) { // there was no connection
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
		}
		return nil, againConnect, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !f.Sent { // refused by the kernel before a byte went out
		x.Dispatched = before
		if ctx.Err() == nil && used {
			return nil, againReset, fmt.Errorf("%w: %w", ErrUnreachable, f.Cause)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, 0, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
	case f.Client:
		return nil, 0, fmt.Errorf("%w: %w", ErrClientBody, f.Cause)
	case !f.Sent:
		return nil, 0, fmt.Errorf("%w: %w", ErrUnreachable, f.Cause)
	case isTimeout(f.Cause):
		return nil, 0, fmt.Errorf("%w: %w", ErrTimeout, f.Cause)
	}
	err = fmt.Errorf("%w: %w", ErrFailed, f.Cause)
	if f.Silent && (x.Logical.Resend || used && safe(x.Method)) {
		return nil, againReset, err
	}
	return nil, 0, err
}

func safe(method string) bool { // RFC 9110 §9.2.1
	return method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "TRACE"
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// pick takes the less loaded of two endpoints drawn at random, and for a repeat another one than that which has just failed. Endpoints
// that failed their health check are left out while there is another one: when all have failed it, the check may be what is wrong.
func (s *Service) pick(failed *endpoint) *endpoint {
	n := len(s.endpoints)
	if n == 1 {
		return s.endpoints[0]
	}
	one := s.draw(func(e *endpoint) bool { return e != failed && !e.down.Load() })
	if one == nil {
		one = s.draw(func(e *endpoint) bool { return e != failed })
	}
	other := s.draw(func(e *endpoint) bool { return e != failed && e != one && e.down.Load() == one.down.Load() })
	if other != nil && other.inUse.Load() < one.inUse.Load() {
		return other
	}
	return one
}

// draw returns the first endpoint from a random one on that will do; nil when none does.
func (s *Service) draw(will func(*endpoint) bool) *endpoint {
	from := rand.IntN(len(s.endpoints))
	for i := range s.endpoints {
		if e := s.endpoints[(from+i)%len(s.endpoints)]; will(e) {
			return e
		}
	}
	return nil
}

// budget bounds repeats to a share of the requests, with a floor of three a second so that a quiet service has some too. A
// share of 0 allows none.
type budget struct {
	share float64
	units atomic.Int64 // thousandths of a repeat
	last  atomic.Int64 // unix nanoseconds of the last refill by time
}

const (
	budgetUnit  = 1000
	budgetMax   = 100 * budgetUnit
	budgetFloor = 3 // repeats a second
)

func (b *budget) request(now time.Time) {
	gain := int64(b.share * budgetUnit)
	if b.share > 0 {
		last := b.last.Load()
		passed := now.UnixNano() - last
		if passed > int64(50*time.Millisecond) && b.last.CompareAndSwap(last, now.UnixNano()) {
			gain += budgetFloor * budgetUnit * min(passed, int64(time.Second)) / int64(time.Second)
		}
	}
	for {
		had := b.units.Load()
		if b.units.CompareAndSwap(had, min(had+gain, budgetMax)) {
			return
		}
	}
}

func (b *budget) take() bool {
	for {
		had := b.units.Load()
		if had < budgetUnit {
			return false
		}
		if b.units.CompareAndSwap(had, had-budgetUnit) {
			return true
		}
	}
}

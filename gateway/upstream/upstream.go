package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/filters"
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
	Endpoints      []string // http://host:port
	Timeout        time.Duration
	ConnectTimeout time.Duration
	Attempts       int // repeats beyond the first attempt
	OnConnect      bool
	OnReset        bool
	Budget         float64 // share of requests, 0 to 1
}

// Service is one service's endpoints and connections. It is safe for concurrent use.
type Service struct {
	settings  Settings
	endpoints []*endpoint
	budget    budget
	metrics   Metrics
}

// Metrics counts what happens. Every member is set.
type Metrics struct {
	Connects        filters.Counter
	ConnectFailures filters.Counter
	Retries         filters.Counter
	Duration        filters.Observer // seconds to the answer's head
}

// New returns a service. The error names an endpoint that is not a URL.
func New(s Settings, m Metrics) (*Service, error) {
	svc := &Service{settings: s, metrics: m, budget: budget{share: s.Budget}}
	for _, e := range s.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("upstream: service %s: endpoint %q is not http://host:port", s.Name, e)
		}
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "80")
		}
		svc.endpoints = append(svc.endpoints, &endpoint{address: address, host: u.Host})
	}
	return svc, nil
}

// Name returns the service's name.
func (s *Service) Name() string { return s.settings.Name }

// Close closes the idle connections; those in use close at their end.
func (s *Service) Close() {
	for _, e := range s.endpoints {
		e.close()
	}
}

// Body is the request's body: Bytes when it has been read already, else Stream with its length (-1: not known).
type Body struct {
	Bytes  []byte
	Stream io.Reader
	Length int64
}

// Send dispatches the exchange to the service and returns the answer's head and its body to be read. The error is one of the
// package's, with its cause. Exchange.Dispatched tells afterwards whether anything was sent.
func (s *Service) Send(ctx context.Context, x *filters.Exchange, body Body) (*Answer, error) {
	s.budget.request(time.Now())
	var failed *endpoint
	for repeat := 0; ; repeat++ {
		e := s.pick(failed)
		answer, again, err := s.attempt(ctx, e, x, body)
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
		if body.Stream != nil && x.Dispatched { // a part of it is gone
			return answer, err
		}
		if !s.budget.take() {
			return answer, err
		}
		s.metrics.Retries.Inc()
		if x.Dispatched && x.Key != "" {
			x.Attempt++
			x.Inject.Set("Sluice-Attempt", fmt.Sprint(x.Attempt))
		}
	}
}

// again says by which condition an attempt may be repeated.
type again uint8

const (
	againConnect again = iota + 1
	againReset
)

func (s *Service) attempt(ctx context.Context, e *endpoint, x *filters.Exchange, body Body) (*Answer, again, error) {
	began := time.Now()
	e.inUse.Add(1)
	c, err := e.take(ctx, s.settings.ConnectTimeout, s.metrics)
	if err != nil {
		e.inUse.Add(-1)
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
		}
		return nil, againConnect, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	before := x.Dispatched
	x.Dispatched = true
	answer, err := c.roundTrip(ctx, x, body, began.Add(s.settings.Timeout))
	if err == nil {
		s.metrics.Duration.Observe(time.Since(began).Seconds())
		return answer, 0, nil
	}
	e.inUse.Add(-1)
	c.Close()
	var tx *transferError
	if !errors.As(err, &tx) {
		return nil, 0, err
	}
	if tx.written == 0 { // refused by the kernel before a byte went out
		x.Dispatched = before
		if ctx.Err() == nil && c.used > 0 {
			return nil, againReset, fmt.Errorf("%w: %w", ErrUnreachable, tx.cause)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, 0, fmt.Errorf("%w: %w", ErrClientGone, ctx.Err())
	case tx.client:
		return nil, 0, fmt.Errorf("%w: %w", ErrClientBody, tx.cause)
	case isTimeout(tx.cause):
		return nil, 0, fmt.Errorf("%w: %w", ErrTimeout, tx.cause)
	case tx.written == 0:
		return nil, 0, fmt.Errorf("%w: %w", ErrUnreachable, tx.cause)
	}
	err = fmt.Errorf("%w: %w", ErrFailed, tx.cause)
	if tx.silent && (x.Resend || c.used > 0 && safe(x.Method)) {
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

// pick takes the less loaded of two endpoints drawn at random, and for a repeat another one than that which has just failed.
func (s *Service) pick(failed *endpoint) *endpoint {
	n := len(s.endpoints)
	if n == 1 {
		return s.endpoints[0]
	}
	i := rand.IntN(n)
	j := rand.IntN(n - 1)
	if j >= i {
		j++
	}
	switch failed {
	case s.endpoints[i]:
		return s.endpoints[j]
	case s.endpoints[j]:
		return s.endpoints[i]
	}
	if s.endpoints[j].inUse.Load() < s.endpoints[i].inUse.Load() {
		i = j
	}
	return s.endpoints[i]
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

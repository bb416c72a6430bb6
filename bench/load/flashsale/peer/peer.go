// Package peer is a small reverse proxy with failsafe-go's adaptive limiter in the place where the
// gateway has its own: net/http's server and client, one limiter a service, nothing else. The load
// test of the flash sale runs it beside the gateway.
//
// The limiter is used as its documentation shows it, with its defaults: what it refuses is 503, a
// call that fails or times out is recorded as dropped. Prioritized, it queues and takes the class of
// a request from the last segment of its path.
package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/priority"
)

// Options say where it runs. Addresses are host:port.
type Options struct {
	Listen, Order, Stock string
	Timeout              time.Duration // of a call
	Prioritized          bool
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: newHandler(ctx, o), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// classes are by the last segment of the path; the others are of the lowest.
var classes = map[string]priority.Priority{
	"critical": priority.VeryHigh, "high": priority.High, "normal": priority.Medium, "low": priority.Low,
}

// limiter is one of failsafe-go's.
type limiter interface {
	acquire(ctx context.Context, class priority.Priority) (adaptivelimiter.Permit, bool)
}

type plain struct {
	l adaptivelimiter.AdaptiveLimiter[any]
}

func (p plain) acquire(context.Context, priority.Priority) (adaptivelimiter.Permit, bool) {
	return p.l.TryAcquirePermit()
}

type prioritized struct {
	l adaptivelimiter.PriorityLimiter[any]
}

func (p prioritized) acquire(ctx context.Context, class priority.Priority) (adaptivelimiter.Permit, bool) {
	level := class.RandomLevel()
	if !p.l.CanAcquirePermitWithLevel(level) {
		return nil, false
	}
	permit, err := p.l.AcquirePermitWithLevel(ctx, level)
	return permit, err == nil
}

// calibrateEvery is how often the threshold of priorities is found anew; failsafe-go leaves it to its
// user.
const calibrateEvery = 100 * time.Millisecond

func newHandler(ctx context.Context, o Options) http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, MaxConnsPerHost: 0, DisableCompression: true}
	newLimiter := func() limiter { return plain{adaptivelimiter.NewWithDefaults[any]()} }
	if o.Prioritized {
		p := adaptivelimiter.NewPrioritizer()
		p.ScheduleCalibrations(ctx, calibrateEvery)
		newLimiter = func() limiter {
			return prioritized{adaptivelimiter.NewBuilder[any]().BuildPrioritized(p)}
		}
	}
	orders := limited(newLimiter(), o.Timeout, proxyTo(transport, o.Order))
	looks := limited(newLimiter(), o.Timeout, proxyTo(transport, o.Stock))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/orders") {
			orders(w, r, priority.Medium)
			return
		}
		looks(w, r, classes[path.Base(r.URL.Path)])
	})
}

type handler func(w http.ResponseWriter, r *http.Request, class priority.Priority)

// limited asks for a permit, and records how the call went.
func limited(l limiter, timeout time.Duration, next http.Handler) handler {
	return func(w http.ResponseWriter, r *http.Request, class priority.Priority) {
		permit, ok := l.acquire(r.Context(), class)
		if !ok {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		seen := &watched{ResponseWriter: w}
		next.ServeHTTP(seen, r.WithContext(ctx))
		if seen.status >= 500 {
			permit.Drop()
		} else {
			permit.Record()
		}
	}
}

func proxyTo(transport http.RoundTripper, address string) http.Handler {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	p.Transport = transport
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		status := http.StatusBadGateway
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			status = http.StatusGatewayTimeout
		}
		w.WriteHeader(status)
		io.WriteString(w, "{}")
	}
	return p
}

// watched keeps the status of a response.
type watched struct {
	http.ResponseWriter
	status int
}

func (w *watched) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

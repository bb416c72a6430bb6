package upstream

import (
	"cmp"
	"crypto/tls"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// Settings of a service. The configuration model has the defaults and checks them.
type Settings struct {
	Name           string
	Endpoints      []config.Endpoint
	TLS            *tls.Config // for the endpoints that have it; nil is the system's roots
	TLSDigest      string      // changes with what TLS was made of; where it is "", each TLS is another one
	Timeout        time.Duration
	ConnectTimeout time.Duration
	DNS            time.Duration // how often names are looked up; 0 is 5s
	KeepAlive      KeepAlive
	Attempts       int // repeats beyond the first attempt
	OnConnect      bool
	OnReset        bool
	Budget         float64  // share of requests, 0 to 1
	Hedge          *Hedge   // nil: no request has a second attempt beside its first
	Health         *Health  // nil: no endpoint is checked
	Outlier        *Outlier // nil: no endpoint is ejected
}

// KeepAlive is how long connections are kept. 0 is a default, as of the configuration.
type KeepAlive struct {
	Idle   time.Duration // when they are not in use
	MaxAge time.Duration // at all; one that is in use by then ends behind its exchange
}

// Health is how endpoints are checked: GET Path, each Every; a response of 2xx within Timeout is a
// success.
type Health struct {
	Path    string // with its query
	Every   time.Duration
	Timeout time.Duration
}

// Equal reports whether both are the same settings, with the endpoints in the same order.
func (s Settings) Equal(o Settings) bool {
	return s.Name == o.Name && slices.Equal(s.Endpoints, o.Endpoints) &&
		sameTLS(&s, &o) && sameHealth(s.Health, o.Health) && sameOutlier(s.Outlier, o.Outlier) &&
		sameHedge(s.Hedge, o.Hedge) &&
		s.Timeout == o.Timeout && s.ConnectTimeout == o.ConnectTimeout &&
		s.DNS == o.DNS && s.KeepAlive == o.KeepAlive &&
		s.Attempts == o.Attempts && s.OnConnect == o.OnConnect && s.OnReset == o.OnReset && s.Budget == o.Budget
}

const (
	dnsDefault    = 5 * time.Second
	idleDefault   = 55 * time.Second // shorter than the 60 to 75 s at which most servers close
	maxAgeDefault = 5 * time.Minute
)

// complete returns a clone with the defaults.
func (s Settings) complete() Settings {
	s = s.clone()
	s.DNS = cmp.Or(s.DNS, dnsDefault)
	s.KeepAlive.Idle = cmp.Or(s.KeepAlive.Idle, idleDefault)
	s.KeepAlive.MaxAge = cmp.Or(s.KeepAlive.MaxAge, maxAgeDefault)
	return s
}

// clone returns settings that share nothing with s but the TLS, which is immutable.
func (s Settings) clone() Settings {
	s.Endpoints = slices.Clone(s.Endpoints)
	if s.Health != nil {
		h := *s.Health
		s.Health = &h
	}
	if s.Outlier != nil {
		o := *s.Outlier
		s.Outlier = &o
	}
	if s.Hedge != nil {
		h := *s.Hedge
		s.Hedge = &h
	}
	return s
}

func sameTLS(a, b *Settings) bool {
	if a.TLS == b.TLS {
		return true
	}
	return a.TLS != nil && b.TLS != nil && a.TLSDigest != "" && a.TLSDigest == b.TLSDigest
}

func sameHealth(a, b *Health) bool { return a == b || a != nil && b != nil && *a == *b }

// repeats reports whether the settings have an attempt repeated that failed under the condition.
func (s *Settings) repeats(on condition) bool {
	return on == connectFailure && s.OnConnect || on == resetBeforeRequest && s.OnReset
}

// timeoutOf is the timeout of an attempt at a message that has its full time.
func (s *Settings) timeoutOf(m *message.Message) time.Duration {
	if m.Timeout > 0 {
		return m.Timeout
	}
	return s.Timeout
}

package upstream

import (
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
	Attempts       int // repeats beyond the first attempt
	OnConnect      bool
	OnReset        bool
	Budget         float64 // share of requests, 0 to 1
	Health         *Health // nil: no endpoint is checked
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
		sameTLS(&s, &o) && sameHealth(s.Health, o.Health) &&
		s.Timeout == o.Timeout && s.ConnectTimeout == o.ConnectTimeout &&
		s.Attempts == o.Attempts && s.OnConnect == o.OnConnect && s.OnReset == o.OnReset && s.Budget == o.Budget
}

// clone returns settings that share nothing with s but the TLS, which is immutable.
func (s Settings) clone() Settings {
	s.Endpoints = slices.Clone(s.Endpoints)
	if s.Health != nil {
		h := *s.Health
		s.Health = &h
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

// timeoutOf is the timeout of each attempt at a message.
func (s *Settings) timeoutOf(m *message.Message) time.Duration {
	if m.Timeout > 0 {
		return m.Timeout
	}
	return s.Timeout
}

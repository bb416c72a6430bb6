package redisx

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// sockets finds the network connection that is behind a connection of the library's, which does not tell. The library
// dials through it, so that it sees what is written: a command with a word that nothing else has in it.
type sockets struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	sought atomic.Int32 // how many words; mostly none
	mu     sync.Mutex
	found  map[string]net.Conn // by word; nil: not yet
}

// newSockets dials as the library would by itself.
func newSockets(o *Options) *sockets {
	s := &sockets{found: map[string]net.Conn{}, dial: o.Dial}
	if s.dial == nil {
		d := &net.Dialer{Timeout: o.Timeout, KeepAliveConfig: keepAlive}
		s.dial = d.DialContext
		if o.TLS {
			s.dial = (&tls.Dialer{NetDialer: d, Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext
		}
	}
	return s
}

// keepAlive finds peers that are gone without a word within a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// open is the library's dialer.
func (s *sockets) open(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	seen := &socket{conn, s}
	if raw, ok := conn.(syscall.Conn); ok {
		return rawSocket{seen, raw}, nil
	}
	return seen, nil
}

// socket is a connection that the library dialed.
type socket struct {
	net.Conn
	sockets *sockets
}

// rawSocket is a socket of which the library can see whether the peer has closed it.
type rawSocket struct {
	*socket
	syscall.Conn
}

func (s *socket) Write(p []byte) (int, error) {
	if s.sockets.sought.Load() > 0 {
		s.sockets.match(s.Conn, p)
	}
	return s.Conn.Write(p)
}

// match notes on which connection a word is written.
func (s *sockets) match(conn net.Conn, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for word := range s.found {
		if bytes.Contains(p, []byte(word)) {
			s.found[word] = conn
		}
	}
}

// of returns the network connection of a connection that was just lent; nil, with the reason, without one.
func (s *sockets) of(conn *redis.Conn, until until) (net.Conn, error) {
	word := rand.Text()
	s.mu.Lock()
	s.found[word] = nil
	s.mu.Unlock()
	s.sought.Add(1)
	// A user who may not do it is told so, and that will do.
	err := conn.Process(until, redis.NewCmd(until, "ping", word))
	s.sought.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.found[word]
	delete(s.found, word)
	if err != nil && (found == nil || !isReply(err)) {
		return nil, err
	}
	return found, nil
}

package http1

import (
	"testing"
	"time"
)

// A tunnel ends when both sides have been silent for too long, and not while one of them speaks;
// with TLS on the client's side too. Closing the server ends it at once.
func TestSilentTunnelEnds(t *testing.T) {
	t.Parallel()
	const idle = 400 * time.Millisecond
	for name, c := range map[string]struct {
		tls, closes  bool
		speaks       func(client, service *peer) (to *peer, from *peer)
		idle         time.Duration
		silentAtLast bool
	}{
		"the client speaks": {speaks: func(c, s *peer) (*peer, *peer) { return s, c }, idle: idle, silentAtLast: true},
		"the service speaks": {speaks: func(c, s *peer) (*peer, *peer) { return c, s }, idle: idle,
			silentAtLast: true},
		"TLS, the client speaks": {tls: true, speaks: func(c, s *peer) (*peer, *peer) { return s, c }, idle: idle,
			silentAtLast: true},
		"TLS, the service speaks": {tls: true, speaks: func(c, s *peer) (*peer, *peer) { return c, s }, idle: idle,
			silentAtLast: true},
		"closed": {closes: true, speaks: func(c, s *peer) (*peer, *peer) { return c, s }, idle: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t)
			silent := make(chan bool, 1)
			s, address := serve(t, func(r *Request) {
				m, err := r.Message()
				if err != nil {
					t.Error(err)
					return
				}
				a, err := p.Do(r.Exchange.Context(), &r.Exchange, m, time.Now(), time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				silent <- r.Tunnel(a.Header, a, c.idle)
				a.Close()
			}, func(o *Options) {
				if c.tls {
					withTLS(o)
				}
			})
			dials := dial
			if c.tls {
				dials = dialTLS
			}
			client := dials(t, address)
			client.say("GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
			p.service.head()
			p.service.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
			client.head()
			to, from := c.speaks(client, p.service)
			pace := time.NewTicker(idle / 10) // of one side; the other is silent for longer than it may
			defer pace.Stop()
			for range 20 {
				from.say("x")
				to.expect("x")
				<-pace.C
			}
			if c.closes {
				s.Close()
			}
			if got := <-silent; got != c.silentAtLast {
				t.Errorf("the tunnel ends for silence: %v", got)
			}
			to.ends()
		})
	}
}

package interop

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// startService runs a service on HTTP/1.1 and returns its host:port.
func startService(t *testing.T, serve http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(serve)
	t.Cleanup(func() {
		s.CloseClientConnections() // what hangs in a failed test would keep Close waiting
		s.Close()
	})
	return s.Listener.Addr().String()
}

// oneService is a configuration that sends everything to one HTTP/1.1 service.
func oneService(address string) string {
	return fmt.Sprintf(`services:
  service: {endpoints: ["http://%s"], timeout: 60s}
routes:
  - {name: all, match: {path: /**}, service: service}
`, address)
}

// transport is a client that speaks one version of HTTP, to a server with this test run's
// certificate where that is TLS.
func transport(t *testing.T, version string) *http.Transport {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true,
		DialContext: new(net.Dialer).DialContext}
	switch version {
	case "http/1.1":
		tr.Protocols.SetHTTP1(true)
	case "h2c":
		tr.Protocols.SetUnencryptedHTTP2(true)
	case "h2":
		tr.Protocols.SetHTTP2(true)
	}
	tr.TLSClientConfig = certificate(t).clientTLS()
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A service that refuses to upgrade has answered a request like any other: the connection goes on.
func TestRefusedUpgradeLeavesTheConnectionUsable(t *testing.T) {
	t.Parallel()
	service := startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			http.Error(w, "no tunnel for you", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, "an ordinary response")
	})
	g := startGateway(t, oneService(service))
	for way, address := range map[string]string{"direct": service, "gateway": g.http} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			conn, err := net.DialTimeout("tcp", address, limit)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(limit)) // a TCP connection has deadlines
			responses := bufio.NewReader(conn)
			ask := func(fields string) (int, string) {
				t.Helper()
				if _, err := fmt.Fprintf(conn, "GET /chat HTTP/1.1\r\nHost: interop\r\n%s\r\n", fields); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(responses, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, string(body)
			}
			const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: " +
				"13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
			for range 2 {
				if status, body := ask(upgrade); status != http.StatusForbidden || body != "no tunnel for you\n" {
					t.Errorf("the upgrade got %d %q, want the service's 403", status, body)
				}
				if status, body := ask(""); status != http.StatusOK || body != "an ordinary response" {
					t.Errorf("the request behind it got %d %q, want the service's 200", status, body)
				}
			}
		})
	}
}

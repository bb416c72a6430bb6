package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/http1"
)

// branchAddress is a branch server and a client of it.
type branchAddress struct {
	*branchServer
	t      *testing.T
	addr   string
	client *http.Client
}

// serveBranches serves with a handler that says how long a body is, and gives each request to kept.
func serveBranches(t *testing.T, kept chan<- *http.Request) *branchAddress {
	t.Helper()
	s := &branchServer{http1.New(http1.Options{
		HeaderTimeout: 10 * time.Second, IdleTimeout: 20 * time.Second, MaxHeader: branchHeadMax,
		Slots: http1.NewSlots(8), Logger: slog.New(slog.DiscardHandler),
		Handler: branchHandler{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			if err != nil {
				http.Error(w, "too long", http.StatusBadRequest)
				return
			}
			kept <- r
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooEarly)
			fmt.Fprintf(w, `{"bytes":%d`, len(body))
			io.WriteString(w, "}")
		})},
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Close)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	return &branchAddress{s, t, l.Addr().String(), client}
}

func (s *branchAddress) send(method, path string, body io.Reader) (status int, text string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type") + " " + string(read)
}

// TestBranchServer: a handler gets the request as net/http would give it, keeps what it was given behind the response,
// and the response comes whole.
func TestBranchServer(t *testing.T) {
	kept := make(chan *http.Request, 8)
	s := serveBranches(t, kept)
	first := "/branch/a%20b/do?gid=g%2F1&op=action"
	for body, want := range map[string]string{
		"": `application/json {"bytes":0}`, strings.Repeat("x", 700): `application/json {"bytes":700}`,
		strings.Repeat("x", 300_000): `application/json {"bytes":300000}`,
	} {
		if status, got := s.send("POST", first, strings.NewReader(body)); status != 425 || got != want {
			t.Errorf("%d bytes: %d %s", len(body), status, got)
		}
	}
	if status, got := s.send("POST", first, struct{ io.Reader }{strings.NewReader("chunked")}); status != 425 ||
		got != `application/json {"bytes":7}` {
		t.Errorf("in chunks: %d %s", status, got)
	}
	if status, _ := s.send("POST", first, strings.NewReader(strings.Repeat("x", 1<<20+1))); status != 400 {
		t.Errorf("one that is too long: %d", status)
	}
	for range 20 { // in the same buffers
		s.send("PUT", "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz?zzzz=zzzzz", nil)
		if r := <-kept; r.Method != "POST" && r.Method != "PUT" {
			t.Fatalf("method %s", r.Method)
		} else if r.Method == "POST" && (r.URL.Path != "/branch/a b/do" || r.URL.Query().Get("gid") != "g/1") {
			t.Fatalf("what was kept has become %s", r.URL)
		} else if r.RemoteAddr != "127.0.0.1" {
			t.Errorf("the peer is %s", r.RemoteAddr)
		}
		if len(kept) == 0 {
			break
		}
	}
	for _, target := range []string{"/a\x7f", "/%zz"} { // of the engine, and of the handler
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 400 ") {
			t.Errorf("%q: %q %v", target, line, err)
		}
		c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

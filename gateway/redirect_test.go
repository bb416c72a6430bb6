package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

const redirectRoutes = `
services: {a: {endpoints: ["http://127.0.0.1:1"]}}
routes:
  - {name: secure, match: {path: /**, host: "*.shop.example"}, redirect: {scheme: https}}
  - {name: secured, match: {path: /**, host: "*.shop.example"}, respond: {status: 200}}
  - {name: www, match: {path: /**, host: old.example}, redirect: {to: "https://www.shop.example", status: 301}}
  - {name: moved, match: {path: "/v1/orders/{id}"}, redirect: {path: "/v2/o/{id}", status: 308},
     headers: {response: {set: {X-Moved: "1"}}}}
  - {name: both, match: {path: "/both/{id}/{rest}"}, redirect: {to: "http://h.example:8080/{rest}/{id}", status: 302}}
  - {name: any, match: {path: /any/**}, redirect: {host: "other.example:81"}}
  - {name: there, match: {path: /any/**}, respond: {status: 204}}
`

func redirecting(t *testing.T) *running {
	t.Helper()
	return start(t, strings.Replace(head, "127.0.0.2/32", "127.0.0.1/32", 1)+redirectRoutes)
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	g := redirecting(t)
	for _, c := range []struct {
		method, host, path, proto string
		status                    int
		location                  string
	}{
		{"GET", "a.shop.example:8080", "/x?a=1&b=%22", "", 307, "https://a.shop.example/x?a=1&b=%22"},
		{"POST", "a.shop.example", "/", "", 307, "https://a.shop.example/"},
		{"GET", "a.shop.example", "/x", "https", 200, ""},
		{"GET", "a.shop.example", "/x", "wss", 200, ""}, // Traefik, for a WebSocket
		{"GET", "a.shop.example", "/x", "ws", 307, "https://a.shop.example/x"},
		{"HEAD", "old.example", "/p/q?x", "", 301, "https://www.shop.example/p/q?x"},
		{"GET", "h", "/v1/orders/a%20b%C3%A9?q", "", 308, "/v2/o/a%20b%C3%A9?q"},
		{"DELETE", "h", "/both/1/x@evil.example", "", 302, "http://h.example:8080/x%40evil.example/1"},
		{"GET", "h", "/any/x", "", 307, "http://other.example:81/any/x"},
		{"GET", "other.example", "/any/x", "", 204, ""},
	} {
		request := c.method + " " + c.path + " HTTP/1.1\r\nHost: " + c.host + "\r\nConnection: close\r\n"
		if c.proto != "" {
			request += "X-Forwarded-Proto: " + c.proto + "\r\n"
		}
		head, body, _ := strings.Cut(g.raw(request+"\r\n"), "\r\n\r\n")
		if !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || body != "" ||
			c.location != "" && !strings.Contains(head, "\r\nLocation: "+c.location+"\r\n") ||
			c.location == "" && strings.Contains(head, "Location") ||
			strings.Contains(head, "X-Moved") != (c.status == 308) || !strings.Contains(head, "Sluice-Request-Id") {
			t.Errorf("%s %s%s: want %d %s\n%s", c.method, c.host, c.path, c.status, c.location, head)
		}
	}
	if n := g.metric(`sluice_requests_total{code="308",reason="",route="moved"}`); n != 1 {
		t.Errorf("%v are counted", n)
	}
}

// Nothing that a client sends decides where another one goes, or ends the field.
func TestRedirectsAreNotOpen(t *testing.T) {
	t.Parallel()
	g := redirecting(t)
	for _, c := range []struct{ request, want string }{
		{"GET //evil.example/x HTTP/1.1\r\nHost: old.example\r\n", "https://www.shop.example/"},
		{"GET /%2Fevil.example/x HTTP/1.1\r\nHost: old.example\r\n", ""},
		{"GET /v1/orders/%2F%2Fevil.example HTTP/1.1\r\nHost: h\r\n", ""},
		{"GET /v1/orders/%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: h\r\n", ""},
		{"GET /v1/orders/x?%0d%0aSet-Cookie:a=b HTTP/1.1\r\nHost: h\r\n", "/v2/o/x?%0d%0aSet-Cookie:a=b"},
		{"GET /v1/orders/x?<\"\x80> HTTP/1.1\r\nHost: h\r\n", ""},
		{"GET /v1/orders/x?{|}^ HTTP/1.1\r\nHost: h\r\n", "/v2/o/x?"},
		{"GET /%5Cevil.example HTTP/1.1\r\nHost: old.example\r\n", ""},
		{"GET /x HTTP/1.1\r\nHost: evil.example/.shop.example\r\n", ""},
		{"GET /x HTTP/1.1\r\nHost: evil.example#.shop.example\r\n", ""},
		{"GET /x HTTP/1.1\r\nHost: u@a.shop.example\r\n", ""},
		{"GET /v1/orders/x HTTP/1.1\r\nHost: evil.example\r\n", "/v2/o/x"},
	} {
		out := g.raw(c.request + "Connection: close\r\n\r\n")
		location := ""
		for line := range strings.Lines(out) {
			if v, ok := strings.CutPrefix(line, "Location: "); ok {
				location = strings.TrimSpace(v)
			}
			if strings.HasPrefix(line, "Set-Cookie") {
				t.Errorf("%q sets a cookie:\n%s", c.request, out)
			}
		}
		if !strings.HasPrefix(location, c.want) || c.want == "" && location != "" ||
			strings.ContainsAny(location, " <>\"") || strings.Contains(location, "\x80") {
			t.Errorf("%q leads to %q, want %q\n%s", c.request, location, c.want, out)
		}
	}
}

func TestExplainRedirects(t *testing.T) {
	t.Parallel()
	cfg, err := config.Parse("t.yaml", []byte(head+redirectRoutes), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/v1/orders/7?q=1": "redirect 308 to /v2/o/7?q=1", "/any/x": "redirect 307 to http://other.example:81/any/x",
	} {
		var b strings.Builder
		if err := Explain(&b, cfg, ExplainRequest{Method: "GET", Path: path}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s: want %q\n%s", path, want, b.String())
		}
	}
	e, err := Explained(cfg, ExplainRequest{Method: "GET", Path: "/any/x", Header: [][2]string{{"Host", "other.example"}}})
	if err != nil || e.Route != "there" {
		t.Errorf("%+v, %v", e, err)
	}
	if i := len(e.PassedOver) - 1; e.PassedOver[i].Why != "the request is where it redirects to" {
		t.Errorf("passed over %+v", e.PassedOver)
	}
}

package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// longText is n bytes in which each line says where it is.
func longText(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%s %d\n", "a line of a long body at", b.Len())
	}
	return b.String()[:n]
}

// sayLong responds with a long body, framed as the path says.
func sayLong(w http.ResponseWriter, r *http.Request, body string) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/sized"):
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		io.WriteString(w, body)
	case strings.HasSuffix(r.URL.Path, "/chunks"):
		w.Header().Set("Trailer", "X-End")
		io.WriteString(w, body[:20_000])
		w.(http.Flusher).Flush()
		io.WriteString(w, body[20_000:])
		w.Header().Set("X-End", "yes")
	case strings.HasSuffix(r.URL.Path, "/to-the-close"):
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n"+body)
		c.Close()
	}
}

// Long bodies are spliced. One client's connection takes them one behind the other, whatever frames them and
// whether the beginning was kept for a record, and the access log has all their bytes.
func TestLongBodiesOnOneConnection(t *testing.T) {
	t.Parallel()
	body := longText(700_001)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) { sayLong(w, r, body) })
	file := filepath.Join(t.TempDir(), "access.log")
	g := start(t, strings.Replace(accessHead(file, ""), "maxBody: 64KiB", "maxBody: 1MiB", 1)+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes:
  - {name: keyed, match: {methods: [POST], path: /keyed/**}, service: a, idempotency: {maxBody: 20KiB}, maxBody: 1MiB}
  - {name: plain, match: {path: /**}, service: a, maxBody: 1MiB}
`)
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(40 * time.Second))
	from := bufio.NewReader(c)
	for i, line := range []string{"GET /sized", "GET /chunks", "GET /to-the-close", "HEAD /sized", "POST /keyed/sized",
		"POST /keyed/chunks", "POST /keyed/to-the-close", "POST /sized", "GET /chunks"} {
		method, path, _ := strings.Cut(line, " ")
		upload := ""
		if method == "POST" {
			upload = body
		}
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k%d\r\nContent-Length: %d\r\n\r\n%s", line, i,
			len(upload), upload)
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got, err := io.ReadAll(resp.Body)
		want := body
		if method == "HEAD" {
			want = ""
		}
		if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, []byte(want)) || resp.Close {
			t.Fatalf("%s: %d with %d bytes, want %d, %v, closes: %v", line, resp.StatusCode, len(got), len(want), err,
				resp.Close)
		}
		if end := resp.Trailer.Get("X-End"); strings.HasSuffix(path, "/chunks") && end != "yes" {
			t.Errorf("%s: the trailer is %q", line, end)
		}
		if _, sent := s.last(t); sent != upload {
			t.Errorf("%s: the service has %d bytes, want %d", line, len(sent), len(upload))
		}
		l := logged(t, file, func(l *accessLine) bool { return l.RequestID == resp.Header.Get(requestIDField) })
		if l.BytesIn != int64(len(upload)) || l.BytesOut != int64(len(want)) || l.Status != 200 || l.Reason != "" {
			t.Errorf("%s: logged as %+v", line, l)
		}
	}
}

// A keyed request whose client leaves within a spliced response is done all the same: the service can say it to its
// end, and a repeat is told that it was done.
func TestClientLeavesLongKeyedResponse(t *testing.T) {
	t.Parallel()
	body, whole := longText(12<<20), make(chan error, 1)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, err := io.WriteString(w, body)
		whole <- err
	})
	g := start(t, head+`
services: {a: {endpoints: ["`+s.URL+`"]}}
routes: [{name: keyed, match: {path: /**}, service: a, idempotency: {}}]
`)
	c, err := net.Dial("tcp", g.at.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "POST /x HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\n{}")
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	if err := <-whole; err != nil {
		t.Errorf("the service could not respond to its end: %v", err)
	}
	until(t, func() bool {
		r := g.do("POST", "/x", "{}", "Idempotency-Key", "k")
		return r.status == 409 && r.header.Get("Sluice-Reason") == "response-not-replayable"
	})
	if n := s.count(); n != 1 {
		t.Errorf("it was executed %d times", n)
	}
}

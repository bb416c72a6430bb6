package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluice-gateway/sluice/filters"
)

// eventsService sends one event, and the second one when it is told to, in the type that the path
// names.
func eventsService(runs *atomic.Int64, more <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		fmt.Fprint(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done(): // the test has failed
			return
		}
		fmt.Fprint(w, "data: 2\n\n")
	}
}

// An answer that is made to be read while it comes is not held back on a keyed route, and is
// recorded as done before it is over.
func TestKeyedStreamsPassAtOnce(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	more := make(chan struct{})
	one, two := newService(t, eventsService(&runs, more)), newHTTP2Service(t, eventsService(&runs, more))
	g := start(t, head+`
services: {one: {endpoints: ["`+one.URL+`"]}, two: {endpoints: ["h2c://`+two.address+`"]}}
routes:
  - {name: one, match: {path: /one}, service: one, idempotency: {}}
  - {name: two, match: {path: /two}, service: two, idempotency: {}}
`)
	for name, c := range map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": http2Client(t)} {
		for _, path := range []string{"/one", "/two"} {
			for i, kind := range []string{"text/event-stream", "text/event-stream;charset=utf-8",
				"application/x-ndjson", "application/stream%2Bjson", "multipart/x-mixed-replace;boundary=b"} {
				url := "http://" + g.at.HTTP + path + "?type=" + strings.ReplaceAll(kind, ";", "%3B")
				req, err := http.NewRequest("POST", url, strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				key := fmt.Sprint(name, i)
				req.Header.Set("Idempotency-Key", key)
				before := runs.Load()
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body := bufio.NewReader(resp.Body)
				if line, err := body.ReadString('\n'); err != nil || line != "data: 1\n" {
					t.Fatalf("%s over %s: %q, %v", url, name, line, err)
				}
				r := fetch(t, url, "POST", "{}", "Idempotency-Key", key)
				if r.status != 409 || r.reason() != string(filters.ResponseNotReplayable) || runs.Load() != before+1 {
					t.Errorf("%s over %s: the duplicate is %+v, %d executions", url, name, r, runs.Load()-before)
				}
				goOn(t, more)
				rest, err := io.ReadAll(body)
				resp.Body.Close()
				if err != nil || string(rest) != "\ndata: 2\n\n" {
					t.Errorf("%s over %s: ends with %q, %v", url, name, rest, err)
				}
			}
		}
	}
}

// A replay has the trailer of the first answer, whatever client and service speak.
func TestReplayHasTheTrailer(t *testing.T) {
	t.Parallel()
	handle := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		http.NewResponseController(w).Flush() // else it would have a length
		if r.URL.Path != "/none" {
			io.WriteString(w, "body")
		}
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "s=1")
	}
	one, two := newService(t, handle), newHTTP2Service(t, http.HandlerFunc(handle))
	for name, endpoint := range map[string]string{"HTTP/1.1": one.URL, "HTTP/2": "h2c://" + two.address} {
		t.Run(name, func(t *testing.T) {
			g := start(t, head+`
services: {a: {endpoints: ["`+endpoint+`"]}}
routes: [{name: keyed, match: {path: /**}, service: a, idempotency: {}}]
`)
			for _, path := range []string{"/some", "/none"} {
				want := map[string]string{"/some": "body", "/none": ""}[path]
				for i, c := range []*http.Client{client, client, http2Client(t)} {
					req, err := http.NewRequest("POST", "http://"+g.at.HTTP+path, strings.NewReader("{}"))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Idempotency-Key", "k"+path)
					resp, err := c.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(b) != want || len(resp.Trailer) != 1 || resp.Trailer.Get("X-Sum") != "42" ||
						(resp.Header.Get("Idempotent-Replayed") == "true") != (i > 0) {
						t.Errorf("%s, request %d: %q, %v, head %v, trailer %v", path, i, b, err, resp.Header,
							resp.Trailer)
					}
				}
			}
			// HTTP/1.0 has no chunks, and so no trailer.
			r := g.raw("POST /some HTTP/1.0\r\nIdempotency-Key: k/some\r\nHost: " + g.at.HTTP +
				"\r\nContent-Length: 2\r\n\r\n{}")
			if !strings.Contains(r, "Idempotent-Replayed: true") || !strings.Contains(r, "Content-Length: 4\r\n") ||
				!strings.HasSuffix(r, "\r\n\r\nbody") {
				t.Errorf("HTTP/1.0: %q", r)
			}
		})
	}
}

// An answer is whole when its stream has ended, and not when as much has come as its length says:
// what is behind it may still be under way.
func TestTrailerBehindAKnownLength(t *testing.T) {
	t.Parallel()
	address := framesService(t, func(f frames, got http2.Frame) {
		if ping, ok := got.(*http2.PingFrame); ok && ping.IsAck() { // the gateway has taken the body for sure
			f.fields(1, true, "x-sum", "42")
		}
		if got.Header().StreamID == 1 && got.Header().Flags.Has(http2.FlagDataEndStream) { // the request is whole
			f.fields(1, false, ":status", "200", "content-length", "4")
			f.WriteData(1, false, []byte("body"))
			f.WritePing(false, [8]byte{1})
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+address+`"]}}
routes: [{name: keyed, match: {path: /**}, service: a, idempotency: {}}]
`)
	c := http2Client(t)
	for i := range 2 {
		req, err := http.NewRequest("POST", "http://"+g.at.HTTP+"/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", "k")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != "body" || resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("request %d: %q, %v, trailer %v", i, b, err, resp.Trailer)
		}
	}
}

// frames is the service's end of a connection of HTTP/2, frame by frame.
type frames struct{ *http2.Framer }

// fields writes a head, or what is behind a body.
func (f frames) fields(id uint32, end bool, list ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(list); i += 2 {
		e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true,
		EndStream: end})
}

// framesService is a service that has each frame of a client's handled, but for those that begin
// the connection. It returns the address.
func framesService(t *testing.T, handle func(f frames, got http2.Frame)) string {
	return wireService(t, func(_ int64, c net.Conn, r *bufio.Reader) {
		if _, err := r.Discard(len(http2.ClientPreface)); err != nil {
			return
		}
		f := frames{http2.NewFramer(c, r)}
		f.WriteSettings()
		for {
			got, err := f.ReadFrame()
			if err != nil {
				return
			}
			if settings, ok := got.(*http2.SettingsFrame); !ok {
				handle(f, got)
			} else if !settings.IsAck() {
				f.WriteSettingsAck()
			}
		}
	})
}

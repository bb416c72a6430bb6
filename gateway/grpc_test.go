package gateway

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/filters"
)

// framed is a message of gRPC as it goes over the wire.
func framed(text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(text))), text...)
}

// grpcService is a service that answers calls by hand. What a call does is its path; each counts as
// one execution.
type grpcService struct {
	*http2Service
	runs  atomic.Int64
	more  chan struct{} // what a stream waits for before it goes on; see goOn
	heads atomic.Int64  // of bidirectional streams
}

func newGRPCService(t *testing.T) *grpcService {
	s := &grpcService{more: make(chan struct{})}
	s.http2Service = newHTTP2Service(t, http.HandlerFunc(s.serve))
	return s
}

func (s *grpcService) serve(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/grpc+proto")
	w.Header().Set("X-Initial", "i")
	if !strings.HasSuffix(r.URL.Path, "/talk") {
		if _, err := io.ReadAll(r.Body); err != nil {
			return
		}
	}
	run := s.runs.Add(1)
	end := func(code string) {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", code)
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "run "+fmt.Sprint(run))
		w.Header().Set(http.TrailerPrefix+"X-Details-Bin", "Zm9v")
	}
	switch action := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]; action {
	case "unary":
		w.Write(framed("response"))
		end("0")
	case "long": // in pieces
		b := framed(strings.Repeat("a", 40<<10))
		w.Write(b[:3])
		ctl.Flush()
		w.Write(b[3 : 20<<10])
		ctl.Flush()
		w.Write(b[20<<10:])
		ctl.Flush()
		end("0")
	case "empty": // no message, and a status behind the head
		ctl.Flush()
		end("9")
	case "stream", "late", "begun", "counted":
		two := framed("two")
		switch action {
		case "counted": // the announced length has come long before the end
			w.Header().Set("Content-Length", fmt.Sprint(2*len(two)))
			w.Write(append(framed("one"), two...))
			two = nil
		case "stream":
			w.Write(framed("one"))
		case "begun": // a message that is longer than the route keeps, of which there is no more than its length yet
			two = framed(strings.Repeat("2", 2<<10))
			w.Write(two[:5])
			two = two[5:]
		}
		ctl.Flush()
		select {
		case <-s.more:
		case <-r.Context().Done(): // the test has failed
			return
		}
		w.Write(two)
		end("0")
	case "pair":
		w.Write(append(framed("one"), framed("two")...))
		end("0")
	case "talk":
		ctl.Flush()
		s.heads.Add(1)
		b := make([]byte, 64)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			ctl.Flush()
			if err != nil {
				end("0")
				return
			}
		}
	default: // a status alone
		w.Header().Set("Grpc-Status", action)
		w.Header().Set("Grpc-Message", "run "+fmt.Sprint(run))
	}
}

// goOn lets a service go on that waits for it.
func goOn(t *testing.T, more chan<- struct{}) {
	t.Helper()
	select {
	case more <- struct{}{}:
	case <-time.After(waitLimit):
		t.Fatal("the service does not wait")
	}
}

const grpcRoutes = `
routes:
  - {name: talk, match: {path: /s/talk}, service: a, idempotency: {fingerprint: [method, path]}}
  - {name: small, match: {path: /small/**}, service: a, idempotency: {required: true, maxBody: 1KiB}}
  - {name: keyed, match: {path: /s/**}, service: a, idempotency: {whileInFlight: reject}}
  - {name: plain, match: {path: /plain/**}, service: a}
`

// call is what a client of gRPC sees of a call.
type call struct {
	body            string
	header, trailer http.Header
}

// status is the code, and where it came.
func (c call) status() string {
	if code := c.header.Get("Grpc-Status"); code != "" {
		return "head " + code
	}
	return "trailer " + c.trailer.Get("Grpc-Status")
}

func grpcRequest(t *testing.T, url, key string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	return req
}

func grpcCall(t *testing.T, c *http.Client, url, key string) call {
	t.Helper()
	resp, err := c.Do(grpcRequest(t, url, key, strings.NewReader(string(framed("question")))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d %q, %v", url, resp.StatusCode, b, err)
	}
	return call{string(b), resp.Header, resp.Trailer}
}

func TestUnaryGRPCIsReplayed(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+grpcRoutes)
	c := http2Client(t)
	for action, want := range map[string]struct{ status, body string }{
		"unary": {"trailer 0", string(framed("response"))},
		"long":  {"trailer 0", string(framed(strings.Repeat("a", 40<<10)))},
		"empty": {"trailer 9", ""},
		"9":     {"head 9", ""}, // recorded, as a 400 is
		"5":     {"head 5", ""},
	} {
		url := "http://" + g.at.HTTP + "/s/" + action
		before := s.runs.Load()
		first, again := grpcCall(t, c, url, "k-"+action), grpcCall(t, c, url, "k-"+action)
		if n := s.runs.Load() - before; n != 1 {
			t.Errorf("%s: %d executions", action, n)
		}
		if first.status() != want.status || first.body != want.body || first.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("%s: the first is %.200v", action, first)
		}
		for _, name := range []string{"Content-Type", "X-Initial", "Grpc-Status", "Grpc-Message"} {
			if first.header.Get(name) != again.header.Get(name) {
				t.Errorf("%s: %s is %q and then %q", action, name, first.header.Get(name), again.header.Get(name))
			}
		}
		if again.status() != want.status || again.body != want.body ||
			again.header.Get("Idempotent-Replayed") != "true" ||
			fmt.Sprint(again.trailer) != fmt.Sprint(first.trailer) {
			t.Errorf("%s: the replay is %.200v, trailer %v; want that of %v", action, again, again.trailer,
				first.trailer)
		}
	}
}

func TestOutcomesOfGRPC(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+grpcRoutes)
	c := http2Client(t)
	for code, again := range map[string]string{
		"14": "head 14", "12": "head 12", // free: executed again
		"13": "head 9", "8": "head 9", "1": "head 9", "4": "head 9", // unknown: held
	} {
		url := "http://" + g.at.HTTP + "/s/" + code
		before := s.runs.Load()
		grpcCall(t, c, url, "k-"+code)
		r := grpcCall(t, c, url, "k-"+code)
		held := r.header.Get("Sluice-Reason") == string(filters.OutcomeUnknown)
		if n := s.runs.Load() - before; r.status() != again || held != (again == "head 9") || held != (n == 1) {
			t.Errorf("code %s: %s with %v after %d executions", code, r.status(), r.header, n)
		}
	}
}

// The first message is seen before the second is sent, with a key and without.
func TestGRPCStreamIsNotHeldBack(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+grpcRoutes)
	c := http2Client(t)
	for _, keyed := range []bool{false, true} {
		for path, wanted := range map[string][2]string{ // the body before the service waits, and behind
			"/s/stream":    {string(framed("one")), string(framed("two"))},
			"/s/late":      {"", string(framed("two"))}, // there is a head, and no message for long
			"/s/counted":   {string(framed("one")) + string(framed("two")), ""},
			"/small/begun": {"\x00\x00\x00\x08\x00", strings.Repeat("2", 2<<10)},
		} {
			key := "k-" + path
			if !keyed {
				key, path = "", "/plain"+path
			}
			url := "http://" + g.at.HTTP + path
			resp, err := c.Do(grpcRequest(t, url, key, strings.NewReader(string(framed("question")))))
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(wanted[0]))
			if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != wanted[0] {
				t.Fatalf("%s: %q, %v", url, b, err)
			}
			if keyed { // it is recorded by now
				r := grpcCall(t, c, url, key)
				if r.status() != "head 6" || r.header.Get("Sluice-Reason") != string(filters.ResponseNotReplayable) {
					t.Errorf("%s: the duplicate is %v", url, r)
				}
			}
			goOn(t, s.more)
			b, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != wanted[1] || resp.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%s: ends with %q, %v, trailer %v", url, b, err, resp.Trailer)
			}
		}
	}
	// Two messages at once, and one that is longer than the route keeps.
	for _, path := range []string{"/s/pair", "/small/long"} {
		first, again := grpcCall(t, c, "http://"+g.at.HTTP+path, "both"),
			grpcCall(t, c, "http://"+g.at.HTTP+path, "both")
		if first.status() != "trailer 0" || len(first.body) < 2*len(framed("one")) ||
			again.header.Get("Sluice-Reason") != string(filters.ResponseNotReplayable) {
			t.Errorf("%s: %.100v and then %v", path, first, again)
		}
	}
}

// A call in which both sides talk by turns works on a keyed route that does not look at the body.
func TestGRPCDialogueWithAKey(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}}`+grpcRoutes)
	c := http2Client(t)
	url := "http://" + g.at.HTTP + "/s/talk"
	body, feed := io.Pipe()
	resp, err := c.Do(grpcRequest(t, url, "k", body)) // returns with the head, before anything was said
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		said := framed(fmt.Sprint("number ", i))
		feed.Write(said)
		b := make([]byte, len(said))
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != string(said) {
			t.Fatalf("%q, %v", b, err)
		}
	}
	feed.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("ends with %q, %v, trailer %v", b, err, resp.Trailer)
	}
	resp.Body.Close()
	if r := grpcCall(t, c, url, "k"); r.status() != "head 6" || s.heads.Load() != 1 {
		t.Errorf("the duplicate is %v, %d executions", r, s.heads.Load())
	}
}

func TestRefusalsOfGRPC(t *testing.T) {
	t.Parallel()
	s := newGRPCService(t)
	closed := nobodyAt(t)
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+s.address+`"]}, none: {endpoints: ["h2c://`+closed+`"]}}
limits: {one: {scope: local, per: [principal], rate: 1/h, burst: 1}}`+grpcRoutes+`
  - {name: down, match: {path: /down}, service: none}
  - {name: limited, match: {path: /limited/**}, service: a, limits: [one]}
`)
	c := http2Client(t)
	base := "http://" + g.at.HTTP
	grpcCall(t, c, base+"/limited/0", "")
	for _, want := range []struct {
		path, key, status string
		reason            filters.Reason
	}{
		{"/nowhere", "", "head 12", filters.NoRoute},
		{"/small/unary", "", "head 3", filters.KeyMissing},
		{"/small/unary", `"`, "head 3", filters.KeyInvalid},
		{"/down", "", "head 14", filters.UpstreamUnreachable},
		{"/limited/0", "", "head 8", filters.RateLimited},
	} {
		r := grpcCall(t, c, base+want.path, want.key)
		if r.status() != want.status || r.header.Get("Sluice-Reason") != string(want.reason) || r.body != "" ||
			r.header.Get("Grpc-Message") == "" ||
			r.header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s: %+v", want.path, r)
		}
	}
	if n := g.metric(`sluice_requests_total{code="404",reason="no-route",route=""}`); n != 1 {
		t.Errorf("%v refusals were counted as 404", n)
	}

	// A duplicate while the first one runs. Two at once: the first holds the claim until it is told
	// to go on.
	var both sync.WaitGroup
	both.Go(func() { grpcCall(t, c, base+"/s/late", "busy") })
	until(t, func() bool { return s.runs.Load() >= 2 })
	r := grpcCall(t, c, base+"/s/late", "busy")
	if reason := r.header.Get("Sluice-Reason"); reason == string(filters.RequestInProgress) &&
		r.status() != "head 10" || reason != string(filters.RequestInProgress) &&
		reason != string(filters.ResponseNotReplayable) {
		t.Errorf("a duplicate meanwhile: %v", r)
	}
	goOn(t, s.more)
	both.Wait()

	// Whoever speaks something else sees what it always has.
	if r := g.do("POST", "/nowhere", "{}", "Content-Type", "application/grpc-web"); r.status != 404 ||
		r.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("gRPC-Web: %+v", r)
	}
}

// A status that comes alone ends the call for the client too, whatever it still has to send: as a
// head with more to come it would be none.
func TestGRPCStatusAloneEndsTheCall(t *testing.T) {
	t.Parallel()
	address := framesService(t, func(f frames, got http2.Frame) {
		if _, ok := got.(*http2.HeadersFrame); ok { // it does not even end the upload
			f.fields(got.Header().StreamID, true, ":status", "200", "content-type", "application/grpc", "grpc-status",
				"7")
		}
	})
	g := start(t, head+`
services: {a: {endpoints: ["h2c://`+address+`"]}}`+grpcRoutes)
	for _, path := range []string{"/plain/call", "/s/talk"} {
		body, feed := io.Pipe()
		resp, err := http2Client(t).Do(grpcRequest(t, "http://"+g.at.HTTP+path, "k", body))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) > 0 || resp.Header.Get("Grpc-Status") != "7" {
			t.Errorf("%s: %q, %v with %v", path, b, err, resp.Header)
		}
		resp.Body.Close()
		feed.Close()
	}
}

func TestGRPCMessage(t *testing.T) {
	for text, want := range map[string]string{"": "", "as it is: ~": "as it is: ~", "50 %": "50 %25",
		"größe\n": "gr%C3%B6%C3%9Fe%0A"} {
		if got := grpcMessage(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

package message

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

func TestMessageLength(t *testing.T) {
	t.Parallel()
	body := NewInMemory([]byte("abc"))
	for _, c := range []struct {
		m       Message
		streams bool
		length  int64
		get     bool // a GET announces it
		post    bool
	}{
		{Message{}, false, 0, false, true},
		{Message{Length: 7}, false, 0, false, true},
		{Message{Bytes: []byte("abc")}, false, 3, true, true},
		{Message{Stream: body, Length: 3}, true, 3, true, true},
		{Message{Stream: body}, false, 0, false, true},
		{Message{Stream: body, Length: -1}, true, -1, false, false},
	} {
		n := c.m.BodyLength()
		if c.m.Streams() != c.streams || n != c.length || Announces("GET", n) != c.get ||
			Announces("POST", n) != c.post {
			t.Errorf("%+v: streams %v, length %d, announced by GET %v and POST %v", c.m, c.m.Streams(), n,
				Announces("GET", n), Announces("POST", n))
		}
	}
}

func TestSendable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path, query, host string
		want                      bool
	}{
		{"GET", "/", "", "a", true}, {"M-SEARCH", "*", "a=b", "a:1", true}, {"", "/", "", "a", false},
		{"GE T", "/", "", "a", false},
		{"GET", "", "", "a", false}, {"GET", "/ x", "", "a", false}, {"GET", "/\r", "", "a", false},
		{"GET", "/", "a b", "a", false},
		{"GET", "/", "\n", "a", false}, {"GET", "/", "\t", "a", false}, {"GET", "/", "", "a\r\nb", false},
		{"GET", "/\x80", "", "a", false},
	} {
		x := filters.Exchange{Method: c.method, Path: c.path, RawQuery: c.query}
		if Sendable(&x, c.host) != c.want {
			t.Errorf("%+v: %v", c, !c.want)
		}
	}
}

func TestForwardsInterim(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]bool{99: false, 100: false, 101: false, 102: true, 103: true, 199: true,
		200: false} {
		if ForwardsInterim(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}

func TestMalformedInHTTP2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"connection", "x", true}, {"keep-alive", "1", true}, {"proxy-connection", "x", true},
		{"transfer-encoding", "chunked", true}, {"upgrade", "x", true},
		{"te", "trailers", false}, {"te", "gzip", true}, {"te", "", true}, {"te", "Trailers", true},
		{"proxy", "x", false}, {"http2-settings", "x", false}, {"host", "a", false}, {"content-length", "1", false},
		{"trailer", "x", false},
		{"expect", "x", false}, {"keep_alive", "1", false}, {"accept", "x", false},
	} {
		if KindOf(c.name).MalformedInHTTP2(c.value) != c.want {
			t.Errorf("%s: %s: %v", c.name, c.value, !c.want)
		}
	}
}

func TestOutgoing(t *testing.T) {
	t.Parallel()
	var o Outgoing
	if !o.Broken() {
		t.Error("a response without a head is whole")
	}
	o.Begin("GET", 200, 5)
	if o.Piece(3) != nil || !o.Broken() || !o.Short() {
		t.Error("three bytes of five are whole")
	}
	if o.Piece(3) != io.ErrShortWrite || o.Err != io.ErrShortWrite {
		t.Error("six bytes of five are taken")
	}
	o = Outgoing{}
	o.Begin("GET", 200, 5)
	if o.Piece(5) != nil || o.Broken() {
		t.Error("five bytes of five are not whole")
	}
	if o.Aborted = true; !o.Broken() {
		t.Error("what was broken off is whole")
	}
	for _, c := range []struct {
		method string
		status int
		length int64
		none   bool
	}{{"HEAD", 200, 5, true}, {"GET", 304, 5, true}, {"GET", 204, 0, true}, {"GET", 200, 0, false},
		{"GET", 200, -1, false}} {
		o := Outgoing{}
		if o.Begin(c.method, c.status, c.length); o.Bodiless != c.none || o.Broken() {
			t.Errorf("%+v: no body %v, broken %v", c, o.Bodiless, o.Broken())
		}
	}
	o = Outgoing{}
	if o.Begin("GET", 200, -1); o.Piece(1<<40) != nil || o.Broken() {
		t.Error("a body without a length has one")
	}
}

func TestDate(t *testing.T) {
	t.Parallel()
	at := time.Unix(784111777, 0)
	if got := Date(at); got != "Sun, 06 Nov 1994 08:49:37 GMT" {
		t.Error(got)
	}
	if got := Date(at.Add(time.Second)); got != "Sun, 06 Nov 1994 08:49:38 GMT" {
		t.Error(got)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	plain, cancel := context.WithCancel(context.Background())
	own := &Context{}
	for name, c := range map[string]struct {
		ctx context.Context
		end func()
	}{"own": {own, own.Cancel}, "plain": {plain, cancel}} {
		w := make(signal, 2)
		var watch Watch
		if watch.Begin(c.ctx, w); !watch.End() {
			t.Errorf("%s: an interrupt may still come of a context that goes on", name)
		}
		watch.Begin(c.ctx, w)
		c.end()
		<-w
		watch.End()
		if !watch.End() || len(w) != 0 {
			t.Errorf("%s: interrupts after the end", name)
		}
	}
	var none Watch
	if none.Begin(context.Background(), nil); !none.End() {
		t.Error("a context without an end interrupts")
	}
}

type signal chan struct{}

func (s signal) Interrupt() { s <- struct{}{} }

func TestConn(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near, netip.MustParseAddr("192.0.2.1"), []byte("read"))
	go far.Write([]byte("more"))
	b := make([]byte, 3)
	for _, want := range []string{"rea", "d", "mor", "e"} {
		if n, err := c.Read(b); string(b[:n]) != want || err != nil {
			t.Fatalf("%q, %v; want %q", b[:n], err, want)
		}
	}
	if CloseWrite(near) {
		t.Error("a pipe ends one side")
	}
	select {
	case <-c.Closed():
		t.Error("it is closed")
	default:
	}
	c.CloseWrite() // closes it where one side cannot be ended alone
	c.Close()
	<-c.Closed()
	if _, err := c.Read(b); err == nil {
		t.Error("a closed connection reads")
	}
}

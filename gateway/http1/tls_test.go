package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// testCertificate is that of package httptest.
func testCertificate() tls.Certificate {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0]
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate := testCertificate()
	handed := make(chan string, 1)
	s, address := serve(t, echo, func(o *Options) {
		config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
		o.TLS = func() *tls.Config { return config }
		o.HTTP2 = func(c net.Conn) {
			b := make([]byte, 4)
			io.ReadFull(c, b)
			handed <- string(b)
			c.Close()
		}
	})
	secure := func(protocol string) *peer {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, c)
	}
	p := secure("http/1.1")
	for range 3 {
		p.say(get + post + postTwo)
		p.want(200, "GET /g ")
		p.want(200, "POST /p hello")
		p.want(200, "POST /c hello")
		s.parkAll()
	}
	p.CloseWrite()
	p.ends()
	h2 := secure("h2")
	h2.say("PRI *")
	if got := <-handed; got != "PRI " {
		t.Errorf("HTTP/2 begins with %q", got)
	}
	plain := dial(t, address)
	plain.say(get)
	io.Copy(io.Discard, plain.r)
	eventually(t, "nothing is open", func() bool { return s.Open() == 0 })
}

// A client that begins HTTP/2 is handed over with all that was read of it, however it came.
func TestPreface(t *testing.T) {
	t.Parallel()
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	handed := make(chan string, 1)
	_, address := serve(t, echo, func(o *Options) {
		o.HTTP2 = func(c net.Conn) {
			b := make([]byte, len(message.HTTP2Preface)+len(settings)+4)
			n, _ := io.ReadFull(c, b)
			handed <- string(b[:n])
			c.Close()
		}
	})
	want := message.HTTP2Preface + settings + "more"
	for _, cut := range []int{0, 3, 16, 20, len(message.HTTP2Preface), len(want) - 2} {
		p := dial(t, address)
		p.say(want[:cut])
		p.say(want[cut:])
		if got := <-handed; got != want {
			t.Errorf("cut at %d: %q", cut, got)
		}
		p.ends()
	}
	p := dial(t, address)
	p.say(message.HTTP2Preface + "GET / HTTP/1.1\r\n\r\n")
	if resp, _ := p.readResponse("GET"); resp.StatusCode != 505 {
		t.Errorf("no frame behind the preface: %d", resp.StatusCode)
	}
}

// onlyOnce accepts the first connection, whom a line before the first request comes from.
func onlyOnce(first *bool) func(net.Conn, netip.Addr) (netip.Addr, error) {
	var mu sync.Mutex
	return func(c net.Conn, _ netip.Addr) (netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		if !*first {
			return netip.Addr{}, errors.New("one was enough")
		}
		*first = false
		_, err := io.ReadFull(c, make([]byte, len("line\n")))
		return netip.MustParseAddr("192.0.2.1"), err
	}
}

// TestTLSIdlesWithoutABuffer: behind its response every connection waits for its socket alone.
func TestTLSIdlesWithoutABuffer(t *testing.T) {
	t.Parallel()
	certificate := testCertificate()
	_, address := serve(t, echo, func(o *Options) {
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		o.TLS = func() *tls.Config { return config }
	})
	const connections = 20
	for range connections {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, c)
		p.say(get)
		p.want(200, "GET /g ")
	}
	stacks := make([]byte, 4<<20)
	eventually(t, "all wait for their sockets", func() bool {
		text := string(stacks[:runtime.Stack(stacks, true)])
		return strings.Count(text, "message.(*Sealed).AwaitArrival") >= connections
	})
}

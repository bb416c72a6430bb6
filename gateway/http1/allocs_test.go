package http1

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// allocates checks how many allocations a call makes once everything has been used a few times.
func allocates(t *testing.T, most float64, what string, f func()) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector allocates by itself; make allocations runs this without it")
	}
	for range 20 {
		f()
	}
	if n := testing.AllocsPerRun(500, f); n > most {
		t.Errorf("%s: %v allocations, at most %v", what, n, most)
	}
}

func TestAllocHeads(t *testing.T) {
	request := []byte("POST /a/b?c=d HTTP/1.1\r\nHost: a.test:8080\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: keep-alive, x-own\r\nX-Own: 1\r\nTransfer-Encoding: chunked\r\nCookie: a=b\r\n\r\n")
	var x filters.Exchange
	var h head
	allocates(t, 0, "a request's head", func() {
		if _, err := parseRequest(request, &x, &h); err != nil {
			t.Fatal(err)
		}
	})
	response := []byte("HTTP/1.1 200 OK\r\nServer: test\r\nContent-Type: text/plain\r\nContent-Length: 12345\r\nSet-Cookie: a=b\r\n\r\n")
	var header filters.Header
	allocates(t, 0, "a response's head", func() {
		if _, _, err := parseResponse(response, "GET", &header, &h); err != nil {
			t.Fatal(err)
		}
	})
	refused := []byte("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
	allocates(t, 0, "a refusal", func() {
		if _, err := parseRequest(refused, &x, &h); err != faultHosts {
			t.Fatal(err)
		}
	})
	out := make([]byte, 0, message.SmallBuffer)
	m := &message.Message{Bytes: []byte("hello")}
	x = filters.Exchange{Method: "POST", Path: "/", RawQuery: "a=b", Host: "a.test",
		Header: filters.Header{{Name: "A", Value: "b"}}, Inject: filters.Header{{Name: "C", Value: "d"}}}
	allocates(t, 0, "the head of a forwarded request", func() {
		if _, err := appendRequest(out, &x, m, "b.test"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAllocChunks(t *testing.T) {
	raw := append(bytes.Repeat([]byte("5;a=b\r\nhello\r\n"), 50), "0\r\nSum: 1\r\n\r\n"...)
	var in buffer
	var b body
	var from bytes.Reader
	small, p := make([]byte, message.SmallBuffer), make([]byte, 1000)
	allocates(t, 0, "a chunked body", func() {
		from.Reset(raw)
		in.take(small, nil)
		b.begin(&in, &from, chunked, "")
		for {
			if _, err := b.Read(p); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// canned answers every request of a connection alike, and allocates nothing.
func canned(nc net.Conn, response []byte) {
	b := make([]byte, message.SmallBuffer)
	for n := 0; ; {
		m, err := nc.Read(b[n:])
		if err != nil {
			return
		}
		n += m
		if bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) || bytes.HasSuffix(b[:n], []byte("hello")) {
			n = 0
			if _, err := nc.Write(response); err != nil {
				return
			}
		}
	}
}

func TestAllocDo(t *testing.T) {
	for name, response := range map[string]string{
		"sized":   "HTTP/1.1 200 OK\r\nServer: test\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "HTTP/1.1 200 OK\r\nServer: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"none":    "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		p := connect(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			canned(p.service.Conn, []byte(response))
		}()
		reusable := false
		p.release = func(_ *Client, r bool) { reusable = r }
		get, post := request("GET"), request("POST")
		none, some := &message.Message{}, &message.Message{Bytes: []byte("hello")}
		ours, plain := &message.Context{}, context.Background()
		b := make([]byte, 100)
		exchange := func(ctx context.Context, x *filters.Exchange, m *message.Message) {
			a, err := p.Do(ctx, x, m, time.Now(), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			for err = nil; err != io.EOF; {
				if _, err = a.Read(b); err != nil && err != io.EOF {
					t.Fatal(err)
				}
			}
			if a.Close(); !reusable {
				t.Fatal("the connection cannot be used again")
			}
		}
		allocates(t, 0, name+", GET", func() { exchange(ours, get, none) })
		allocates(t, 0, name+", POST", func() { exchange(ours, post, some) })
		allocates(t, 0, name+", GET without a client", func() { exchange(plain, get, none) })
		p.Client.Close()
		<-served
	}
}

func TestAllocServe(t *testing.T) {
	response := []byte("hello")
	header := filters.Header{{Name: "Content-Type", Value: "text/plain"}}
	_, address := serve(t, func(r *Request) {
		if _, err := r.Exchange.Body(); err != nil {
			t.Error(err)
		}
		r.Head(200, header, int64(len(response)))
		r.Write(response)
	}, nil)
	p := dial(t, address)
	b := make([]byte, message.SmallBuffer)
	ask := func(request []byte) {
		if _, err := p.Conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if n, err := p.Conn.Read(b); err != nil || !bytes.HasSuffix(b[:n], response) {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
	for name, text := range map[string]string{"GET": get, "POST": post, "chunked": postTwo} {
		request := []byte(text)
		allocates(t, 0, name, func() { ask(request) })
	}
	three := []byte(get + get + post)
	got := 0
	allocates(t, 0, "pipelined", func() {
		if _, err := p.Conn.Write(three); err != nil {
			t.Fatal(err)
		}
		for got = 0; got < 3; {
			n, err := p.Conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			got += bytes.Count(b[:n], response)
		}
	})
}

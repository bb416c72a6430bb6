package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// pipesUsed reports whether anything went through a pipe.
func pipesUsed(p *Pipes) bool {
	open, _ := p.count()
	return open > 0
}

// TestSplicedUploads: whatever frames the body, the service gets the same bytes.
func TestSplicedUploads(t *testing.T) {
	t.Parallel()
	body := noise(700_001)
	for name, c := range map[string]struct {
		request string
		spliced bool
	}{
		"sized":              {fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), true},
		"one chunk":          {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, len(body)), true},
		"chunks, some short": {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 3, 50_000, 1, 100_000), true},
		"short chunks":       {"Transfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 1000), false},
		"expected":           {fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(body), body), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := connect(t), passes{}
			pipes, _, change := withPipes(t, 1)
			_, address := serve(t, s.through(t, p, hangs), change)
			client := dial(t, address)
			go func() {
				head, rest, _ := strings.Cut(c.request, "\r\n\r\n")
				io.WriteString(client, "POST /x HTTP/1.1\r\nHost: a\r\n"+head+"\r\n\r\n")
				if name == "expected" {
					client.expect(string(continueLine))
				}
				io.WriteString(client, rest)
			}()
			req, err := http.ReadRequest(p.service.r)
			if err != nil {
				t.Fatal(err)
			}
			if name == "expected" {
				p.service.say(string(continueLine))
			}
			got, err := io.ReadAll(req.Body)
			if err != nil || string(got) != string(body) {
				t.Errorf("%d bytes, %v; want these %d", len(got), err, len(body))
			}
			if req.ContentLength < 0 && req.Trailer.Get("X-End") != "yes" {
				t.Errorf("trailer %v", req.Trailer)
			}
			p.service.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			client.want(200, "ok")
			if err := <-s.ended; err != nil {
				t.Error(err)
			}
			if used := pipesUsed(pipes); used != c.spliced {
				t.Errorf("spliced: %v, want %v", used, c.spliced)
			}
			if !<-p.released {
				t.Error("the service's connection cannot be used again")
			}
		})
	}
}

// TestSplicedUploadIsCut: a client that leaves in its body, wherever, is the one whose failure it is, and
// the service never has a whole request. One that only pauses is waited for, without a pipe.
func TestSplicedUploadIsCut(t *testing.T) {
	t.Parallel()
	body := noise(90_000)
	for name, text := range map[string]string{
		"sized":  fmt.Sprintf("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunks": "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + inChunkLengths(body, 40_000),
	} {
		cuts := []int{len(text) - 1, len(text) - 20, len(text) - 30_000}
		for _, about := range []int{message.SmallBuffer, spliceMin, 40_000, spliceMost, 80_000} {
			for d := -16; d <= 48; d += 16 {
				cuts = append(cuts, about+d)
			}
		}
		for _, pauses := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pauses=%v", name, pauses), func(t *testing.T) {
				t.Parallel()
				for _, cut := range cuts {
					uploadCutAt(t, text, cut, pauses, body)
				}
			})
		}
	}
}

func uploadCutAt(t *testing.T, text string, cut int, pauses bool, body []byte) {
	p, s := connect(t), passes{}
	pipes, b, change := withPipes(t, 1)
	server, address := serve(t, s.through(t, p, hangs), change)
	defer server.Close()
	client := dial(t, address)
	defer client.Close()
	client.say(text[:cut])
	got := make(chan []byte, 1)
	go func() {
		var whole []byte
		if req, err := http.ReadRequest(bufio.NewReader(p.service.r)); err == nil {
			if whole, err = io.ReadAll(req.Body); err != nil {
				whole = nil
			}
		}
		if got <- whole; whole != nil {
			io.WriteString(p.service, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}()
	if pauses {
		client.isRead(server)
		eventually(t, "no pipe is lent while the client rests", func() bool {
			open, idle := pipes.count()
			return open == idle && b.Used(budget.Buffered) <= 2*message.LargeBufferSize
		})
		client.say(text[cut:])
		client.want(200, "ok")
	} else {
		client.CloseWrite()
	}
	if whole := <-got; pauses && string(whole) != string(body) || !pauses && whole != nil {
		t.Errorf("cut at %d: the service has %d bytes", cut, len(whole))
	}
	err := <-s.ended
	var f *message.Failure
	if pauses && err != nil || !pauses && (!errors.As(err, &f) || !f.Client || !errors.Is(err, io.ErrUnexpectedEOF)) {
		t.Errorf("cut at %d: ended with %v", cut, err)
	}
	if reusable := <-p.released; reusable != pauses {
		t.Errorf("cut at %d: the service's connection can be used again: %v", cut, reusable)
	}
}

// TestSplicedUploadIsBounded: what is beyond the limit of a body of unknown length is not taken, in
// whatever chunks it comes.
func TestSplicedUploadIsBounded(t *testing.T) {
	t.Parallel()
	p, s := connect(t), passes{}
	_, _, change := withPipes(t, 1)
	through := s.through(t, p, hangs)
	_, address := serve(t, nil, func(o *Options) {
		change(o)
		o.Handler = unlimited{func(r *Request) { r.LimitBody(100_000); through(r) }}
	})
	client := dial(t, address)
	go io.WriteString(client, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+
		inChunkLengths(noise(300_000), 60_000))
	p.service.head()
	taken := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, p.service.r)
		taken <- n
	}()
	var f *message.Failure
	if err := <-s.ended; !errors.As(err, &f) || !f.Client || !strings.Contains(err.Error(), "too large") {
		t.Errorf("ended with %v", err)
	}
	if n := <-taken; n > 101_000 {
		t.Errorf("the service has got %d bytes", n)
	}
	<-p.released
}

// TestSplicedUploadToSlowService: the service has its time for each piece, and no more.
func TestSplicedUploadToSlowService(t *testing.T) {
	t.Parallel()
	p, s := connect(t), passes{}
	_, _, change := withPipes(t, 1)
	_, address := serve(t, s.through(t, p, 300*time.Millisecond), change)
	client := dial(t, address)
	go fmt.Fprintf(client, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(longBody()), longBody())
	p.service.head() // and nothing more is read
	var f *message.Failure
	if err := <-s.ended; !errors.As(err, &f) || f.Client {
		t.Errorf("ended with %v, want a failure of the service", err)
	}
	<-p.released
}

package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// slowly runs a service by hand on a pipe, in a bubble of its own time, and returns the response of
// a client with a timeout of a second.
func slowly(t *testing.T, m *message.Message, serve func(c net.Conn)) (*Response, error) {
	t.Helper()
	client, service := net.Pipe()
	over := make(chan struct{})
	go func() { defer close(over); serve(service) }()
	t.Cleanup(func() { client.Close(); service.Close(); <-over })
	x := &filters.Exchange{}
	x.Begin(context.Background(), nil)
	x.Method, x.Path, x.Host = "POST", "/", "a"
	c := NewClient(client, "a", func(*Client, bool) {})
	return c.Do(context.Background(), x, m, time.Now(), time.Second)
}

// say writes pieces, each a pause after the one before.
func say(c io.Writer, pause time.Duration, pieces ...string) {
	for _, p := range pieces {
		time.Sleep(pause)
		io.WriteString(c, p)
	}
}

func readRequest(c net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		io.Copy(io.Discard, req.Body)
	}
}

// The timeout bounds the head as a whole and then each silence within the body, and not its length.
func TestSilenceBoundsBodies(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	const chunked, sized = "Transfer-Encoding: chunked\r\n\r\n", "Content-Length: 4\r\n\r\n"
	long := strings.Split(strings.Repeat("1\r\nx\r\n|", 20)+"0\r\n\r\n", "|")
	trickle := strings.Split(head+strings.Repeat("X: 1\r\n|", 20)+"\r\n", "|")
	hints := strings.Split(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n|", 20)+head+"\r\n", "|")
	for _, c := range []silenceCase{
		{"long and steady", 900 * time.Millisecond, append([]string{head + chunked}, long...), 0, true, 20, 0},
		{"sized", 900 * time.Millisecond, []string{head + sized, "a", "b", "c", "d"}, 0, true, 4, 0},
		{"silent", time.Hour, []string{}, 0, false, 0, time.Second},
		{"silent behind the head", 900 * time.Millisecond, []string{head + chunked}, 0, true, 0, time.Second},
		{"silent in the middle", 900 * time.Millisecond, []string{head + sized, "a", "b"}, 0, true, 2, time.Second},
		{"head that trickles", 900 * time.Millisecond, trickle, 0, false, 0, time.Second},
		{"interim responses without end", 900 * time.Millisecond, hints, 0, false, 0, time.Second},
		{"chunk that says nothing", 900 * time.Millisecond, []string{head + chunked, "1", ";", "a", "="}, 0, true, 0,
			time.Second},
		{"stream", 0, append([]string{head + chunked}, long...), time.Minute, true, 20, 0},
		{"silent stream", 900 * time.Millisecond, append([]string{head + chunked}, long[:3]...), time.Minute, true, 3,
			time.Minute},
	} {
		synctest.Test(t, c.run)
	}
}

// silenceCase is a response in pieces.
type silenceCase struct {
	name    string
	pause   time.Duration // before each piece; in a stream 59 s behind the first
	pieces  []string
	stream  time.Duration // 0: none
	headed  bool
	body    int
	silence time.Duration // after which it is cut; 0: it ends
}

func (c silenceCase) run(t *testing.T) {
	var last time.Time
	r, err := slowly(t, &message.Message{}, func(nc net.Conn) {
		readRequest(nc)
		last = time.Now()
		for i, p := range c.pieces {
			pause := c.pause
			if c.stream > 0 && i > 0 {
				pause = 59 * time.Second
			}
			time.Sleep(pause)
			if _, err := io.WriteString(nc, p); err != nil {
				return
			}
			if c.headed {
				last = time.Now()
			}
		}
	})
	if (err == nil) != c.headed {
		t.Fatalf("%s: %v", c.name, err)
	}
	if err == nil {
		defer r.Close()
		if c.stream > 0 {
			r.Stream(c.stream)
		}
		var b []byte
		if b, err = io.ReadAll(struct{ io.Reader }{r}); len(b) != c.body {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
	}
	if (err == nil) != (c.silence == 0) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %v", c.name, err)
	}
	synctest.Wait()                                            // until the service has said when that was
	if c.silence == 0 || c.name == "chunk that says nothing" { // whose bytes move last
		return
	}
	if got := time.Since(last); got < c.silence || got > c.silence+slack(c.silence) {
		t.Errorf("%s: cut off after %v", c.name, got)
	}
}

// slowReader gives a body in pieces, each after a pause.
type slowReader struct {
	pause  time.Duration
	pieces []string
}

func (s *slowReader) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.pieces = s.pieces[1:]
	return n, nil
}

func (*slowReader) Interrupt() {}

// A request's body may take any time: before there is a response the service's time begins with its
// end, and behind the head of a stream each piece of it ends the silence.
func TestSlowUploads(t *testing.T) {
	for name, early := range map[string]bool{"response behind it": false, "stream beside it": true} {
		synctest.Test(t, func(t *testing.T) {
			body := &slowReader{10 * time.Second, []string{"a", "b", "c"}}
			const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			r, err := slowly(t, &message.Message{Stream: body, Length: -1}, func(c net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if early {
					say(c, time.Second/2, head)
				}
				io.Copy(io.Discard, req.Body)
				if !early {
					say(c, time.Second/2, head)
				}
				say(c, time.Second/2, "0\r\n\r\n")
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r.Stream(11 * time.Second); r.Endpoint() == "" {
				t.Error("from nowhere")
			}
			if b, err := io.ReadAll(struct{ io.Reader }{r}); err != nil || len(b) > 0 {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			r.Close()
		})
	}
}

// A response that is not a stream has its own silence beside an upload.
func TestUploadDoesNotCoverSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &slowReader{700 * time.Millisecond, []string{"a", "b", "c", "d", "e", "f"}}
		r, err := slowly(t, &message.Message{Stream: body, Length: -1}, func(c net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			say(c, 0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			io.Copy(io.Discard, req.Body)
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = r.Read(make([]byte, 8))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took > time.Second+slack(time.Second) {
			t.Errorf("%v after %v", err, took)
		}
		r.Close()
	})
}

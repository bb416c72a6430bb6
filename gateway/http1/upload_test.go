package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// A client that rests longer than the service's time between two pieces of its body.
func TestRestingClientIsNotTheServicesFault(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	p := connect(t)
	body := newScript()
	go func() {
		body.pieces <- "x"
		<-time.After(2 * timeout)
		select {
		case body.pieces <- "x":
		case <-body.interrupt:
		}
		close(body.pieces)
	}()
	go func() {
		p.service.head()
		io.ReadFull(p.service.r, make([]byte, 2))
		io.WriteString(p.service, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	a, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: 2}, time.Now(), timeout)
	if err != nil {
		t.Fatalf("%v, the client's fault: %v", err, err.(*message.Failure).Client)
	}
	a.Close()
}

// script is a client's body, which a test sends piece by piece.
type script struct {
	pieces    chan string
	interrupt chan struct{}
	once      sync.Once
	rest      string
}

func newScript() *script {
	return &script{pieces: make(chan string), interrupt: make(chan struct{})}
}

func (s *script) Interrupt() { s.once.Do(func() { close(s.interrupt) }) }

func (s *script) Read(b []byte) (int, error) {
	if s.rest == "" {
		select {
		case piece, ok := <-s.pieces:
			if !ok {
				return 0, io.EOF
			}
			s.rest = piece
		case <-s.interrupt:
			return 0, os.ErrDeadlineExceeded
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestUpload(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{-1, 10} {
		p := connect(t)
		body := newScript()
		var got string
		served := make(chan struct{})
		go func() {
			defer close(served)
			p.service.head()
			b := make([]byte, 10)
			if length < 0 {
				b = make([]byte, len("5\r\nhello\r\n5\r\nworld\r\n0\r\nSum: 10\r\n\r\n"))
			}
			io.ReadFull(p.service.r, b)
			got = string(b)
			io.WriteString(p.service, "HTTP/1.1 204 No Content\r\n\r\n")
		}()
		go func() {
			body.pieces <- "hello"
			body.pieces <- "world"
			close(body.pieces)
		}()
		a, err := p.Do(t.Context(), request("POST"),
			&message.Message{Stream: body, Length: length, Trailer: func() filters.Header {
				return filters.Header{{Name: "Sum", Value: "10"}, {Name: "Host", Value: "no"}}
			}}, time.Now(), hangs)
		if err != nil {
			t.Fatal(err)
		}
		<-served
		if want := map[int64]string{-1: "5\r\nhello\r\n5\r\nworld\r\n0\r\nSum: 10\r\n\r\n",
			10: "helloworld"}[length]; got != want {
			t.Errorf("the service got %q", got)
		}
		if a.Close(); !<-p.released {
			t.Error("the connection cannot be used again")
		}
	}
}

// A response that refuses ends the upload; one that does not lets it go on to its end.
func TestUploadWithAnEarlyResponse(t *testing.T) {
	t.Parallel()
	t.Run("401", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		body := newScript()
		a, err := p.do(t.Context(), "POST", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
			&message.Message{Stream: body, Length: -1})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(a); string(text) != "no" || err != nil || !a.Uploading() {
			t.Errorf("%q %v, uploading: %v", text, err, a.Uploading())
		}
		a.Close()
		<-body.interrupt
		if <-p.released {
			t.Error("the connection is used again")
		}
	})
	t.Run("200", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		body := newScript()
		a, err := p.do(t.Context(), "POST", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			&message.Message{Stream: body, Length: -1})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(a); string(text) != "ok" || err != nil || !a.Uploading() {
			t.Errorf("%q %v, uploading: %v", text, err, a.Uploading())
		}
		go func() {
			body.pieces <- "late"
			close(body.pieces)
		}()
		a.Close()
		p.service.expect("4\r\nlate\r\n0\r\n\r\n")
		if !<-p.released {
			t.Error("the connection cannot be used again")
		}
	})
}

// A client's body that breaks is the client's failure, and the service sees that it is not whole.
func TestUploadBreaks(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{-1, 10} {
		p := connect(t)
		body := newScript()
		go func() {
			body.pieces <- "hello"
			body.Interrupt()
		}()
		_, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: length}, time.Now(), hangs)
		f, ok := err.(*message.Failure)
		if !ok || !f.Client || !f.Sent || !f.Silent || !errors.Is(f, os.ErrDeadlineExceeded) || <-p.released {
			t.Errorf("length %d: %+v", length, err)
		}
		p.service.head()
		if sent, _ := io.ReadAll(p.service.r); bytes.HasSuffix(sent, []byte("0\r\n\r\n")) || len(sent) >= 10 &&
			length > 0 {
			t.Errorf("length %d: the service takes %q for whole", length, sent)
		}
	}
	p := connect(t)
	body := newScript()
	go func() {
		body.pieces <- "hello"
		close(body.pieces)
	}()
	_, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: 10}, time.Now(), hangs)
	if f, ok := err.(*message.Failure); !ok || !f.Client || !errors.Is(f, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is too short: %+v", err)
	}
}

func TestExpectForwarded(t *testing.T) {
	t.Parallel()
	t.Run("taken", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		body := newScript()
		served := make(chan string)
		go func() {
			head := p.service.head()
			io.WriteString(p.service, "HTTP/1.1 100 Continue\r\n\r\n")
			b := make([]byte, 5)
			io.ReadFull(p.service.r, b)
			io.WriteString(p.service, "HTTP/1.1 204 No Content\r\n\r\n")
			served <- head + string(b)
		}()
		go func() {
			body.pieces <- "hello"
			close(body.pieces)
		}()
		a, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: 5, Expects: true},
			time.Now(), hangs)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := <-served, "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"; got != want {
			t.Errorf("the service got %q", got)
		}
		if a.Close(); !<-p.released {
			t.Error("the connection cannot be used again")
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		p := connect(t)
		body := newScript()
		a, err := p.do(t.Context(), "POST", "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
			&message.Message{Stream: body, Length: 5, Expects: true})
		if err != nil || a.Status != 413 {
			t.Fatal(a, err)
		}
		if a.Close(); <-p.released {
			t.Error("the connection is used again, with a body owed")
		}
		if rest, _ := io.ReadAll(p.service.r); len(rest) > 0 {
			t.Errorf("the service that wanted no body got %q", rest)
		}
	})
}

// The service's time begins anew with each piece of the body, so a client that takes longer than
// that over all is not its fault.
func TestSlowClientIsNotTheServicesFault(t *testing.T) {
	t.Parallel()
	const timeout = 1600 * time.Millisecond
	p := connect(t)
	body := newScript()
	go func() {
		tick := time.NewTicker(timeout / 8)
		defer tick.Stop()
		for range 16 {
			<-tick.C
			body.pieces <- "x"
		}
		close(body.pieces)
	}()
	go func() {
		p.service.head()
		io.ReadFull(p.service.r, make([]byte, 16))
		io.WriteString(p.service, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	a, err := p.Do(t.Context(), request("POST"), &message.Message{Stream: body, Length: 16}, time.Now(), timeout)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

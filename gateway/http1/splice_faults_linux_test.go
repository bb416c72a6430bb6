package http1

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// TestRestsWhileTheClientIsSlow: a service that rests has its whole time, however long the client takes for
// what came before.
func TestRestsWhileTheClientIsSlow(t *testing.T) {
	t.Parallel()
	const silence, kept = 200 * time.Millisecond, 1000
	body := noise(100_000)
	_, _, change := withPipes(t, 1)
	p, s := connect(t), passes{ended: make(chan error, 1)}
	slow, taken := make(chan *conn), make(chan struct{})
	_, address := serve(t, func(r *Request) {
		a, err := p.Do(t.Context(), &r.Exchange, &message.Message{}, time.Now(), hangs)
		if err != nil {
			t.Error(err)
			return
		}
		defer a.Close()
		a.Stream(silence)
		held := make(chan struct{})
		go r.c.raw.Write(func(uintptr) bool { // as long as this waits nobody else can write to the client
			close(held)
			<-taken
			return true
		})
		<-held
		slow <- r.c
		r.Head(200, nil, -1)
		r.Write(body[:kept]) // the step that looks at the service's socket sends it
		s.ended <- s.body(r, a)
	}, change)
	client := dial(t, address)
	client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n") // not served while it is read
	p.service.head()
	p.service.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)))
	c, since := <-slow, time.Now()
	eventually(t, "it waits for the client, and longer than the service may be silent", func() bool {
		if !c.rate.writes.Load() {
			since = time.Now()
		}
		return time.Since(since) > 2*silence
	})
	p.service.say(string(body))
	close(taken)
	if _, got := client.readResponse("GET"); got != string(body[:kept])+string(body) {
		t.Errorf("%d bytes, want %d", len(got), kept+len(body))
	}
	if err := <-s.ended; err != nil || s.spliced.Load() == 0 {
		t.Errorf("ended with %v, %d pieces were spliced", err, s.spliced.Load())
	}
}

// TestNoSpliceThere: a system that forbids splice(2), as a seccomp filter may, costs no body: all are copied.
func TestNoSpliceThere(t *testing.T) {
	t.Parallel()
	body := noise(300_000)
	for _, upload := range []bool{false, true} {
		pipes, _, change := withPipes(t, 2)
		none := pipes.take()
		file, err := os.CreateTemp(t.TempDir(), "")
		if err == nil {
			err = unix.Dup2(int(file.Fd()), none.write) // no pipe: EINVAL
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		pipes.put(none)
		p, s := connect(t), passes{}
		_, address := serve(t, s.through(t, p, hangs), change)
		client := dial(t, address)
		sized := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
		request, response, want := get, "HTTP/1.1 200 OK\r\n"+sized, string(body)
		if upload {
			request, want = "POST /x HTTP/1.1\r\nHost: a\r\n"+sized, "ok"
			response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
		}
		go io.WriteString(client, request)
		p.service.head()
		if upload {
			p.service.expect(string(body))
		}
		go io.WriteString(p.service, response)
		if _, got := client.readResponse("GET"); got != want {
			t.Errorf("upload=%v: %d bytes, want %d", upload, len(got), len(want))
		}
		if err := <-s.ended; err != nil {
			t.Errorf("upload=%v: ended with %v", upload, err)
		}
		if again := pipes.take(); again != nil {
			t.Errorf("upload=%v: a further pipe is tried", upload)
			pipes.put(again)
		}
	}
}

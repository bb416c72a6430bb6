package http1

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// refusing answers without a look at the body, but for /read, of which it takes a part, and /limit.
func refusing(r *Request) {
	switch r.Exchange.Path {
	case "/read":
		if _, err := io.ReadFull(struct{ io.Reader }{r}, make([]byte, 100<<10)); err != nil {
			reply(r, 400, "malformed")
			return
		}
	case "/limit":
		r.LimitBody(300 << 10)
		if _, err := r.Exchange.Body(); err == filters.ErrBodyTooLarge {
			reply(r, 413, "too long")
			return
		}
	}
	reply(r, 403, "refused")
}

// refusedUpload is a request whose client sends all of it before it reads.
type refusedUpload struct {
	name   string
	status int
	head   string
	piece  string // repeated to size bytes
}

func uploads(size int) []refusedUpload {
	const chunk = "8000\r\n"
	whole := chunk + strings.Repeat("x", 0x8000) + "\r\n"
	sized := fmt.Sprintf(" HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
	const inChunks = " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	x := strings.Repeat("x", 64<<10)
	return []refusedUpload{
		{"by its head", 403, "POST /" + sized, x},
		{"in chunks, by its head", 403, "POST /" + inChunks, whole},
		{"in its middle", 403, "POST /read" + sized, x},
		{"in the middle of its chunks", 403, "POST /read" + inChunks, whole},
		{"for its length", 413, "POST /limit" + sized, x},
		{"for the length of its chunks", 413, "POST /limit" + inChunks, whole},
		{"for a chunk at fault", 400, "POST /read" + inChunks + chunk + "not so long\r\n", x},
		{"for a head without an end", 431, "POST / HTTP/1.1\r\nHost: a\r\n",
			"A: " + strings.Repeat("b", 1000) + "\r\n"},
		{"for a target without an end", 414, "POST /", x},
		{"for a line at fault", 400, "POST /\x01 HTTP/1.1\r\n", x},
	}
}

// No refusal is lost: not to a client that sends everything before it reads, however much it is.
func TestRefusedUploadsGetTheirResponse(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{false, true} {
		_, address := serve(t, refusing, func(o *Options) {
			if sealed {
				withTLS(o)
			}
		})
		for _, c := range []struct{ size, runs int }{{1 << 20, 20}, {8 << 20, 3}, {64 << 20, 1}} {
			if raceDetector && c.size > 8<<20 {
				continue // takes longer there than a client is given, and shows what 8 MiB show
			}
			for _, u := range uploads(c.size) {
				t.Run(fmt.Sprintf("%s, %d MiB, TLS %v", u.name, c.size>>20, sealed), func(t *testing.T) {
					if c.size <= 8<<20 { // the others one at a time: each is given 30 s
						t.Parallel()
					}
					for range c.runs {
						dials := dial
						if sealed {
							dials = dialTLS
						}
						u.send(dials(t, address), c.size)
					}
				})
			}
		}
	}
}

// send sends all, and then reads the refusal.
func (u refusedUpload) send(p *peer, size int) {
	p.t.Helper()
	p.SetDeadline(time.Now().Add(2 * lingerMax))
	p.say(u.head)
	for n := 0; n < size; n += len(u.piece) {
		if _, err := io.WriteString(p, u.piece); err != nil {
			p.t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	resp, _ := p.readResponse("POST")
	if resp.StatusCode != u.status {
		p.t.Fatalf("the response is %d, want %d", resp.StatusCode, u.status)
	}
	p.Close()
}

// Behind a refusal the server reads for as long as bytes come, and not for ever.
func TestLingerEnds(t *testing.T) {
	t.Parallel()
	s, address := serve(t, refusing, nil)
	const head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
	silent := dial(t, address)
	silent.say(head)
	silent.want(403, "refused")
	silent.ends() // our side of it: theirs is still open
	began := time.Now()
	eventually(t, "silence ends it", func() bool { return s.Open() == 0 })
	if took := time.Since(began); took < lingerSilence-tickEvery {
		t.Errorf("silence ended it after %v", took)
	}
	if n := len(s.Slots.taken); n != 0 {
		t.Errorf("%d slots are taken", n)
	}
}

// A shutdown does not wait for a client that goes on to send what is not wanted.
func TestShutdownEndsLingering(t *testing.T) {
	t.Parallel()
	s, address := serve(t, refusing, nil)
	p := dial(t, address)
	p.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
	p.want(403, "refused")
	ctx, cancel := context.WithTimeout(t.Context(), lingerSilence-time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// What lingers keeps no memory of its request.
func TestLingeringHasNoBuffers(t *testing.T) {
	t.Parallel()
	s, address := serve(t, refusing, nil)
	p := dial(t, address)
	p.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
	p.want(403, "refused")
	eventually(t, "it lingers", func() bool {
		for _, c := range s.all() {
			if c.state.Load() == lingering && c.rate.reads.Load() {
				return c.r == nil
			}
		}
		return false
	})
	s.Close()
	if b, err := io.ReadAll(p.r); len(b) > 0 || err != nil && !isReset(err) {
		t.Errorf("%q %v", b, err)
	}
}

func isReset(err error) bool {
	_, ok := err.(*net.OpError)
	return ok
}

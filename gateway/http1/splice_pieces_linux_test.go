package http1

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// TestPieces: what lies ready of a response is one piece. Behind a client that had to be waited for, and
// on an account with little room, a piece is as long as a buffer and no more.
func TestPieces(t *testing.T) {
	t.Parallel()
	body := noise(1 << 20)
	for name, c := range map[string]struct {
		slow     bool
		buffered int64
		large    bool
	}{
		"the client takes them":      {false, 16 << 20, true},
		"the client was waited for":  {true, 16 << 20, false},
		"the account has less room":  {false, 1 << 20, false},
		"and the client is slow too": {true, 1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, first := connect(t), make(chan int64, 1)
			if err := p.nc.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
				t.Fatal(err)
			}
			pipes := NewPipes(1)
			defer pipes.Close()
			b := budget.New(budget.Limits{InFlight: 100, Buffered: c.buffered, Upstreams: 100})
			s := passes{ended: make(chan error, 1)}
			_, address := serve(t, func(r *Request) {
				a, err := p.Do(t.Context(), &r.Exchange, &message.Message{}, time.Now(), hangs)
				if err != nil {
					s.ended <- err
					return
				}
				defer a.Close()
				r.c.slow = c.slow
				r.Head(200, nil, int64(len(body)))
				s.ended <- lieReady(p, spliceMost+32<<10)
				if ok, _, err := r.Splice(a); !ok || err != nil {
					t.Errorf("spliced: %v, %v", ok, err)
				}
				first <- r.response.Sent() // what came with the head is in it
				s.ended <- s.body(r, a)
			}, func(o *Options) { o.Pipes, o.Budget = pipes, b })
			client := dial(t, address)
			client.say(get)
			go func() {
				p.service.head()
				fmt.Fprintf(p.service, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}()
			if _, got := client.readResponse("GET"); got != string(body) {
				t.Errorf("%d bytes, want these %d", len(got), len(body))
			}
			for range 2 {
				if err := <-s.ended; err != nil {
					t.Fatal(err)
				}
			}
			if n := <-first; (n > spliceMost+message.SmallBuffer) != c.large || n < spliceMost {
				t.Errorf("the first piece has %d bytes; more than %d: want %v", n, spliceMost, c.large)
			}
			if n := b.Used(budget.Buffered); n != 0 {
				t.Errorf("%d bytes are still drawn", n)
			}
		})
	}
}

// lieReady waits until so many bytes lie ready on the connection to the service.
func lieReady(p *pair, n int) error {
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(time.Millisecond) {
		have := 0
		if err := p.socket.Control(func(fd uintptr) { have = unread(int(fd)) }); err != nil {
			return err
		}
		if have >= n {
			return nil
		}
	}
	return fmt.Errorf("never %d bytes", n)
}

// TestPieceIsDrawnAsItCame: what was drawn for more than has come is given back before the client is
// waited for.
func TestPieceIsDrawnAsItCame(t *testing.T) {
	t.Parallel()
	const came = 1000
	pipes := NewPipes(1)
	defer pipes.Close()
	b := budget.New(budget.Limits{InFlight: 1, Buffered: 16 << 20, Upstreams: 1})
	account, source := b.Own(), connect(t)
	source.service.say(string(noise(came)))
	if err := lieReady(source, came); err != nil {
		t.Fatal(err)
	}
	p := pipes.lend(account, spliceLarge)
	if used := b.Used(budget.Buffered); used != spliceLarge {
		t.Errorf("%d bytes are drawn for what may come, want %d", used, spliceLarge)
	}
	var filled error
	err := source.socket.Control(func(fd uintptr) { filled = p.fill(int(fd), spliceLarge) })
	if err != nil || filled != nil {
		t.Fatal(err, filled)
	}
	for range 2 { // the second time there is nothing more
		if pipes.settle(p, account); b.Used(budget.Buffered) != came {
			t.Errorf("%d bytes are drawn for %d that came", b.Used(budget.Buffered), came)
		}
	}
	if pipes.giveBack(p, account); b.Used(budget.Buffered) != 0 {
		t.Errorf("%d bytes are still drawn", b.Used(budget.Buffered))
	}
}

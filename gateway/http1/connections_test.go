package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const short = 50 * time.Millisecond
	soon := func(o *Options) { o.HeaderTimeout = short }
	for name, c := range map[string]struct {
		change func(*Options)
		before string // answered
		say    string
	}{
		"nothing":          {soon, "", ""},
		"a part of a head": {soon, "", "GET / HTTP"},
		"a second head":    {soon, get, "GET /"},
		"idle":             {func(o *Options) { o.IdleTimeout = short }, get, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, address := serve(t, echo, c.change)
			p := dial(t, address)
			if c.before != "" {
				p.say(c.before)
				p.want(200, "GET /g ")
			}
			p.say(c.say)
			p.ends()
		})
	}
	t.Run("a part of a body", func(t *testing.T) {
		t.Parallel()
		_, address := serve(t, func(r *Request) {
			if _, err := io.ReadAll(struct{ io.Reader }{r}); err == nil {
				t.Error("the body is taken for whole")
			}
			reply(r, 408, "slow")
		}, func(o *Options) { o.IdleTimeout = 5 * short }) // the server's clock has a step of a tenth of a second
		p := dial(t, address)
		p.say(post[:len(post)-2])
		if resp := p.want(408, "slow"); !resp.Close {
			t.Error("the connection is kept")
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(r *Request) {
		if r.Exchange.Path == "/wait" {
			close(begun)
			<-goOn
		}
		reply(r, 200, "done")
	}, nil)
	fresh, used, busy := dial(t, address), dial(t, address), dial(t, address)
	used.say(get)
	used.want(200, "done")
	busy.say("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + get)
	<-begun
	eventually(t, "three connections", func() bool { return s.Open() == 3 })
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(over); err != context.Canceled {
		t.Errorf("a shutdown without patience: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- s.Shutdown(context.Background()) }()
	fresh.ends()
	used.ends()
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the listener is still open")
	}
	close(goOn)
	if resp := busy.want(200, "done"); !resp.Close {
		t.Error("the last response does not say that it is the last")
	}
	busy.CloseWrite()
	busy.ends()
	if err := <-ended; err != nil || s.Open() != 0 {
		t.Errorf("%v, %d open", err, s.Open())
	}
}

func TestCloseWithARequestUnderWay(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{}, 2)
	s, address := serve(t, func(r *Request) {
		begun <- struct{}{}
		if r.Exchange.Method == "GET" {
			<-r.Exchange.Context().Done()
		} else if _, err := r.Exchange.Body(); err == nil {
			t.Error("a body that never came is there")
		}
		reply(r, 200, "late")
	}, nil)
	waits, sends, idles := dial(t, address), dial(t, address), dial(t, address)
	waits.say(get)
	sends.say(post[:len(post)-1])
	<-begun
	<-begun
	eventually(t, "three connections", func() bool { return s.Open() == 3 })
	s.Close()
	if s.Open() != 0 {
		t.Errorf("%d connections are open", s.Open())
	}
	idles.ends()
	s.Close()
}

// A client that leaves ends the context of its request.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*peer){"close": func(p *peer) { p.Close() },
		"half": func(p *peer) { p.CloseWrite() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun, ended := make(chan struct{}), make(chan error)
			_, address := serve(t, func(r *Request) {
				close(begun)
				<-r.Exchange.Context().Done()
				ended <- r.Exchange.Context().Err()
			}, nil)
			p := dial(t, address)
			p.say(get)
			<-begun
			leave(p)
			if err := <-ended; err != context.Canceled {
				t.Error(err)
			}
		})
	}
}

// parkAll parks what is idle, without the wait for it.
func (s *Server) parkAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.Load() == idle { // as the watch does
			c.park(math.MaxInt64)
		}
	}
}

// parks reports whether a connection is being parked.
func (s *Server) parks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.Load() == parking {
			return true
		}
	}
	return false
}

// A connection whose goroutine is renewed serves on, also when bytes arrive just then.
func TestParking(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	var calm, stop atomic.Bool
	parked := make(chan struct{})
	go func() {
		defer close(parked)
		// Not without a pause: on one processor the poller would be asked every 10 ms only, and each of
		// the reads below take as long.
		again := time.NewTicker(10 * time.Microsecond)
		defer again.Stop()
		for ; !stop.Load(); <-again.C {
			if !calm.Load() || !s.parks() { // when calm the goroutine that is to be parked goes first
				s.parkAll()
			}
		}
	}()
	p := dial(t, address)
	for i := range 2000 {
		calm.Store(i%2 == 0)
		p.SetDeadline(time.Now().Add(hangs))
		switch i % 5 {
		case 0:
			p.say(get + post + get)
			p.want(200, "GET /g ")
			p.want(200, "POST /p hello")
			p.want(200, "GET /g ")
		case 1:
			p.say(post[:20])
			p.say(post[20:])
			p.want(200, "POST /p hello")
		case 2:
			p.say(postTwo[:len(postTwo)-3])
			p.say(postTwo[len(postTwo)-3:])
			p.want(200, "POST /c hello")
		default:
			p.say(get)
			p.want(200, "GET /g ")
		}
	}
	stop.Store(true)
	<-parked
	eventually(t, "no connection is being parked", func() bool { return !s.parks() })
	p.say(get)
	p.want(200, "GET /g ")
}

// An idle connection can be shut down while its goroutine is renewed.
func TestShutdownOfParked(t *testing.T) {
	t.Parallel()
	for range 20 {
		s, address := serve(t, echo, nil)
		p := dial(t, address)
		for range 2 {
			p.say(get)
			p.want(200, "GET /g ")
		}
		go s.parkAll()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		p.ends()
	}
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	one := true
	_, address := serve(t, func(r *Request) { reply(r, 200, r.ClientText()) }, func(o *Options) {
		o.Accepted = onlyOnce(&one)
	})
	p := dial(t, address)
	p.say("line\n" + get)
	p.want(200, "192.0.2.1")
	p = dial(t, address)
	p.say("line\n" + get)
	io.Copy(io.Discard, p.r) // a reset or an end
}

// Who has connected just before a shutdown gets a response to the request that is on its way. Who sends none does not
// hold the shutdown up for longer than that may take.
func TestShutdownServesTheNewlyConnected(t *testing.T) {
	t.Parallel()
	ticks := make(chan time.Time)
	s, address := serve(t, echo, func(o *Options) { o.ticks = ticks })
	now := time.Unix(0, s.clock.Load())
	fresh, parted, silent := dial(t, address), dial(t, address), dial(t, address)
	parted.say(get[:8])
	parted.isRead(s)
	eventually(t, "three connections", func() bool { return s.Open() == 3 })
	ended := make(chan error)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	ticks <- now.Add(headDrained - tickEvery)
	parted.say(get[8:])
	fresh.say(get)
	for _, p := range []*peer{parted, fresh} {
		if resp := p.want(200, "GET /g "); !resp.Close {
			t.Error("the connection is kept")
		}
		p.CloseWrite()
		p.ends()
	}
	eventually(t, "the silent one is left", func() bool { return s.Open() == 1 })
	ticks <- now.Add(headDrained + tickEvery)
	silent.ends()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What comes behind a body in the same segment as a stray line does not hold a shutdown up.
func TestShutdownAfterAStrayLine(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	p := dial(t, address)
	p.say(post)
	p.want(200, "POST /p hello")
	p.say("\r\n")
	p.isRead(s)
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("%v", err)
	}
}

// The connection is shut down while part of a head is there.
func TestShutdownWithPartOfAHead(t *testing.T) {
	t.Parallel()
	s, address := serve(t, echo, nil)
	p := dial(t, address)
	p.say("GET / HT")
	p.isRead(s)
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("%v", err)
	}
}

// The deadline of reads with a small idle time-out is not in the past.
func TestIdleTimeoutIsNeverShorter(t *testing.T) {
	t.Parallel()
	_, address := serve(t, func(r *Request) {
		_, err := io.ReadAll(struct{ io.Reader }{r})
		reply(r, 408, fmt.Sprint(err != nil))
	}, func(o *Options) { o.IdleTimeout = 50 * time.Millisecond })
	for range 10 {
		p := dial(t, address)
		p.say(post[:len(post)-1])
		p.want(408, "true")
	}
}

// To close the server ends a write that waits for a client.
func TestCloseWithASlowReader(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 100 << 10} {
		piece := make([]byte, size)
		var written atomic.Int64
		s, address := serve(t, func(r *Request) {
			r.Head(200, nil, -1)
			for {
				if _, err := r.Write(piece); err != nil {
					return
				}
				r.Flush()
				written.Add(1)
			}
		}, nil)
		p := dial(t, address)
		p.say(get)
		eventually(t, "something is written", func() bool { return written.Load() > 0 })
		s.Close()
	}
}

// A listener on which nobody comes takes nothing of what it shares with another one.
func TestIdleListenerHoldsNoSlot(t *testing.T) {
	t.Parallel()
	slots := NewSlots(1)
	share := func(o *Options) { o.Slots = slots }
	serve(t, echo, share)
	_, address := serve(t, echo, share)
	p := dial(t, address)
	p.say(get)
	p.want(200, "GET /g ")
}

// failing is a listener that fails a few times before it accepts.
type failing struct {
	net.Listener
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	return f.Listener.Accept()
}

// What passes does not end a server, and takes no slot with it.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, echo, func(o *Options) { o.Slots = NewSlots(4) })
	listen := func(errs ...error) *failing {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return &failing{l, errs}
	}
	l := listen(syscall.EMFILE, fmt.Errorf("accept: %w", syscall.ECONNABORTED), errors.New("something else"))
	ended := make(chan error)
	go func() { ended <- s.Serve(l) }()
	p := dial(t, l.Addr().String())
	p.say(get)
	p.want(200, "GET /g ")
	bad := listen(net.ErrClosed)
	defer bad.Close()
	if err := s.Serve(bad); err != net.ErrClosed {
		t.Errorf("a listener that somebody else has closed: %v", err)
	}
	s.Close()
	if err := <-ended; err != ErrClosed {
		t.Errorf("the server ends with %v", err)
	}
	if len(s.Slots.taken) != 0 {
		t.Errorf("%d slots are taken", len(s.Slots.taken))
	}
	if err := s.Serve(bad); err != ErrClosed {
		t.Errorf("a server that was closed serves: %v", err)
	}
}

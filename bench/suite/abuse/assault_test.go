package abuse_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// assault work on one gateway until they are stopped. All of them together take one token for each
// step of theirs, a write as a rule, and tokens come at a fixed rate: so they have the same share of
// the processor whatever they attack, and however slow it is.
type assault struct {
	address string // of the gateway
	tokens  chan struct{}
	stop    chan struct{}
	running sync.WaitGroup
	steps   atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// attack is one way to hold what a gateway has. Each comes from an address of its own.
type attack struct {
	name string
	many int // at a time
	// run attacks once, and returns when it was thrown out or has reached its end.
	run func(a *assault, from string)
}

// attacks are all that hold something of the process and not of one connection.
var attacks = []attack{
	{"responses with a window of 0", 5, func(a *assault, from string) { a.window(from, 0) }},
	{"responses with a byte of window a second", 5, func(a *assault, from string) { a.window(from, 1) }},
	{"heads of 250 fields", 2, (*assault).heads},
	{"unfinished bodies on HTTP/2", 1, (*assault).unfinished},
	{"slow bodies", 100, (*assault).slowBody},
	{"deep JSON bodies", 4, (*assault).deepJSON},
	{"keyed requests whose clients leave", 8, (*assault).leave},
	{"idle connections", 400, (*assault).idle},
}

// startAssault starts all attacks, with so many steps a second.
func startAssault(address string, rate int) *assault {
	a := &assault{address: address, tokens: make(chan struct{}, 64), stop: make(chan struct{}),
		conns: map[net.Conn]struct{}{}}
	a.running.Go(func() {
		const every = 2 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for due, last := 0.0, time.Now(); ; {
			select {
			case <-a.stop:
				return
			case now := <-tick.C:
				due = min(due+float64(rate)*now.Sub(last).Seconds(), float64(cap(a.tokens)))
				last = now
			}
			for ; due >= 1; due-- {
				select {
				case a.tokens <- struct{}{}:
				default:
					due = 1
				}
			}
		}
	})
	for i, at := range attacks {
		from := fmt.Sprintf("127.0.1.%d", i+1)
		for range at.many {
			a.running.Go(func() {
				for a.step() {
					at.run(a, from)
				}
			})
		}
	}
	return a
}

// end stops the assault and waits for them.
func (a *assault) end() {
	close(a.stop)
	a.mu.Lock()
	for c := range a.conns {
		c.Close()
	}
	a.mu.Unlock()
	a.running.Wait()
}

// step waits for a token; false when the attack is over.
func (a *assault) step() bool {
	select {
	case <-a.tokens:
		a.steps.Add(1)
		return true
	case <-a.stop:
		return false
	}
}

// pause waits; false when the attack is over.
func (a *assault) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.stop:
		return false
	}
}

// dial connects from an address; nil when that fails.
func (a *assault) dial(from string) net.Conn {
	d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", a.address)
	if err != nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.stop:
		c.Close()
		return nil
	default:
	}
	a.conns[c] = struct{}{}
	return c
}

func (a *assault) drop(c net.Conn) {
	c.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, c)
}

// closed returns a channel that is closed when the gateway has ended the connection. What it sends is
// dropped.
func closed(c net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, c)
	}()
	return done
}

// await returns when the gateway has ended the connection, or the time is over, or the attack.
func (a *assault) await(done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-a.stop:
	}
}

func (a *assault) idle(from string) {
	c := a.dial(from)
	if c == nil {
		return
	}
	defer a.drop(c)
	if a.step() {
		_, _ = io.WriteString(c, "GET /small HTTP/1.1\r\nHost: gw.test\r\n\r\n")
		a.await(closed(c), time.Minute)
	}
}

func (a *assault) slowBody(from string) {
	c := a.dial(from)
	if c == nil {
		return
	}
	defer a.drop(c)
	_, _ = fmt.Fprintf(c, "POST /keyed/slow HTTP/1.1\r\nHost: gw.test\r\nIdempotency-Key: s%d\r\n"+
		"Content-Length: 8000000\r\n\r\n%s", a.steps.Load(), strings.Repeat("x", 32<<10))
	done := closed(c)
	for a.pause(time.Second) && a.step() {
		select {
		case <-done:
			return
		default:
		}
		if _, err := c.Write([]byte{'x'}); err != nil {
			return
		}
	}
}

var deepBody = `{"a":[` + strings.Repeat(`{"a":0},`, 1<<20/8) + `{}]}`

func (a *assault) deepJSON(from string) {
	c := a.dial(from)
	if c == nil {
		return
	}
	defer a.drop(c)
	done := closed(c)
	_, _ = fmt.Fprintf(c, "POST /limited HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
		len(deepBody))
	for rest := deepBody; len(rest) > 0 && a.step(); {
		n := min(len(rest), 64<<10)
		if _, err := io.WriteString(c, rest[:n]); err != nil {
			return
		}
		rest = rest[n:]
	}
	a.await(done, 10*time.Second)
}

func (a *assault) leave(from string) {
	c := a.dial(from)
	if c == nil {
		return
	}
	_, _ = fmt.Fprintf(c, "POST /keyed/hold HTTP/1.1\r\nHost: gw.test\r\nIdempotency-Key: l%d\r\n"+
		"Content-Length: 2\r\n\r\n{}", a.steps.Load())
	a.pause(20 * time.Millisecond) // until it has been sent on
	a.drop(c)
}

// speaker is an attacker's connection of HTTP/2, which keeps to the gateway's windows.
type speaker struct {
	a    *assault
	conn net.Conn
	f    *http2.Framer

	mu      sync.Mutex // of writing, and of what follows
	enc     *hpack.Encoder
	block   bytes.Buffer
	window  int
	initial int
	streams map[uint32]int // windows of those that are open
	next    uint32
	done    chan struct{}
}

// speak shakes hands, with that window for the gateway's responses.
func (a *assault) speak(from string, window uint32) *speaker {
	c := a.dial(from)
	if c == nil {
		return nil
	}
	s := &speaker{a: a, conn: c, f: http2.NewFramer(c, c), window: 65535, initial: 65535,
		streams: map[uint32]int{}, next: 1, done: make(chan struct{})}
	s.enc = hpack.NewEncoder(&s.block)
	s.f.SetMaxReadFrameSize(1 << 20)
	_, _ = io.WriteString(c, http2.ClientPreface)
	_ = s.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	go s.read()
	return s
}

func (s *speaker) read() {
	defer close(s.done)
	for {
		frame, err := s.f.ReadFrame()
		if err != nil {
			return
		}
		s.mu.Lock()
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
					s.initial = int(v)
				}
				_ = s.f.WriteSettingsAck()
			}
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				s.window += int(f.Increment)
			} else if w, ok := s.streams[f.StreamID]; ok {
				s.streams[f.StreamID] = w + int(f.Increment)
			}
		case *http2.RSTStreamFrame:
			delete(s.streams, f.StreamID)
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = s.f.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				delete(s.streams, f.StreamID)
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				delete(s.streams, f.StreamID)
			}
		}
		s.mu.Unlock()
	}
}

func (s *speaker) over() bool {
	select {
	case <-s.done:
		return true
	case <-s.a.stop:
		return true
	default:
		return false
	}
}

// open opens a stream; 0 when there are many, or the connection has ended.
func (s *speaker) open(end bool, fields ...string) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.streams) >= 240 {
		return 0
	}
	s.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = s.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := s.next
	s.next += 2
	s.streams[id] = s.initial
	first, rest := s.block.Bytes(), []byte(nil)
	if len(first) > 16<<10 {
		first, rest = first[:16<<10], first[16<<10:]
	}
	_ = s.f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end,
		EndHeaders: rest == nil})
	for rest != nil {
		n := min(len(rest), 16<<10)
		piece := rest[:n]
		if rest = rest[n:]; len(rest) == 0 {
			rest = nil
		}
		_ = s.f.WriteContinuation(id, rest == nil, piece)
	}
	return id
}

func request(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "gw.test", ":path", path}, more...)
}

// window asks for responses of 1 MiB and takes so many bytes a second of each.
func (a *assault) window(from string, perSecond uint32) {
	s := a.speak(from, 0)
	if s == nil {
		return
	}
	defer a.drop(s.conn)
	for range 240 {
		if !a.step() || s.over() {
			return
		}
		s.open(true, request("GET", "/big")...)
	}
	for a.pause(time.Second) && !s.over() {
		if perSecond == 0 {
			continue
		}
		s.mu.Lock()
		ids := make([]uint32, 0, len(s.streams))
		for id := range s.streams {
			ids = append(ids, id)
		}
		s.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		for _, id := range ids {
			if !a.step() {
				return
			}
			s.mu.Lock()
			_ = s.f.WriteWindowUpdate(id, perSecond)
			s.mu.Unlock()
		}
	}
}

// heads opens requests with as many long fields as a head may have, most of them by reference to the
// first, and leaves their bodies out.
func (a *assault) heads(from string) {
	s := a.speak(from, 0)
	if s == nil {
		return
	}
	defer a.drop(s.conn)
	fields := request("POST", "/keyed/heads", "content-length", "1000")
	for i := range 200 {
		fields = append(fields, fmt.Sprint("x-", i%20), strings.Repeat("v", 120))
	}
	for !s.over() && a.step() {
		if s.open(false, append(fields, "idempotency-key", fmt.Sprint("h", a.steps.Load()))...) == 0 {
			a.pause(100 * time.Millisecond)
		}
	}
}

// unfinished sends all but the end of 200 bodies.
func (a *assault) unfinished(from string) {
	s := a.speak(from, 65535)
	if s == nil {
		return
	}
	defer a.drop(s.conn)
	const length = 8_300_000
	var ids []uint32
	sent := map[uint32]int{}
	for i := range 200 {
		if !a.step() || s.over() {
			return
		}
		id := s.open(false, request("POST", "/keyed/unfinished", "content-length", fmt.Sprint(length),
			"idempotency-key", fmt.Sprint("u", i, a.steps.Load()))...)
		ids = append(ids, id)
	}
	data := bytes.Repeat([]byte("u"), 16<<10)
	for i := 0; !s.over() && a.step(); i++ {
		id := ids[i%len(ids)]
		s.mu.Lock()
		window, open := s.streams[id]
		if n := min(len(data), window, s.window, length-1-sent[id]); open && n > 0 {
			_ = s.f.WriteData(id, false, data[:n])
			s.streams[id] -= n
			s.window -= n
			sent[id] += n
		}
		left := len(s.streams)
		s.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

package http2

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestSendWindowGrows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, by int
		want     int
		ok       bool
	}{
		{0, 1, 1, true}, {firstWindow, windowMax - firstWindow, windowMax, true},
		{firstWindow, windowMax - firstWindow + 1, windowMax + 1, false},
		{windowMax, 0, windowMax, true}, {windowMax, 1, windowMax + 1, false}, {1, windowMax, windowMax + 1, false},
		{-firstWindow, windowMax, windowMax - firstWindow, true}, {10, -30, -20, true}, {-20, 20, 0, true},
	} {
		w := sendWindow(c.from)
		if ok := w.grow(c.by); ok != c.ok || int(w) != c.want {
			t.Errorf("%d grows by %d to %d, %v; want %d, %v", c.from, c.by, w, ok, c.want, c.ok)
		}
	}
}

func TestWindowUpdate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, by, want int
		fault          code
	}{
		{0, 0, 0, protocolError}, {-5, 0, -5, protocolError}, {windowMax, 0, windowMax, protocolError},
		{0, 1, 1, noError},
		{-5, 3, -2, noError}, {0, windowMax, windowMax, noError}, {1, windowMax, windowMax + 1, flowControlError},
	} {
		w := sendWindow(c.from)
		if fault := w.update(c.by); fault != c.fault || int(w) != c.want {
			t.Errorf("%d and %d: %d, fault %d; want %d, %d", c.from, c.by, w, fault, c.want, c.fault)
		}
	}
}

func TestReceiveWindow(t *testing.T) {
	t.Parallel()
	w := newReceiveWindow(100)
	if !w.receive(100) {
		t.Fatal("the whole window is not taken")
	}
	if n := w.consume(49); n != 0 || w.left != 0 {
		t.Errorf("an update of %d before half of the window was consumed", n)
	}
	if n := w.consume(1); n != 50 || w.left != 50 {
		t.Errorf("an update of %d with %d left", n, w.left)
	}
	if n := w.consume(0); n != 0 {
		t.Errorf("an update of %d for nothing", n)
	}
	w.skip(60) // padding: the peer is told with what is read behind it
	if w.left != 50 {
		t.Errorf("%d left", w.left)
	}
	if n := w.consume(0); n != 60 || w.left != 110 {
		t.Errorf("an update of %d with %d left", n, w.left)
	}
	if w.receive(110); w.left != 0 {
		t.Errorf("%d left", w.left)
	}
	if w.receive(1) {
		t.Error("more than the window is taken")
	}
	if n := newReceiveWindow(100); !n.receive(0) {
		t.Error("an empty frame is more than the window")
	}
}

// streamsOf returns a connection's flow and n streams of it.
func streamsOf(n int) (*flow, []*streamFlow) {
	f := newFlow()
	list := make([]*streamFlow, n)
	for i := range list {
		list[i] = &streamFlow{}
		f.begin(list[i])
	}
	return &f, list
}

func TestAcquire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                         string
		connection, stream, buffered int
		want, got                    int
	}{
		{"what is wanted", 100, 100, 0, 10, 10},
		{"a frame", 1 << 20, 1 << 20, 0, 1 << 20, frameMax},
		{"the stream's window", 100, 7, 0, 10, 7},
		{"the connection's window", 7, 100, 0, 10, 7},
		{"a closed stream", 100, 0, 0, 10, 0},
		{"a closed connection", 0, 100, 0, 10, 0},
		{"a stream below 0", 100, -20, 0, 10, 0},
		{"nothing", 100, 100, 0, 0, 0},
		{"a buffer with room for less", 100, 100, outMax - 1, 10, 10},
		{"a full buffer", 100, 100, outMax, 10, 0},
	} {
		f, s := streamsOf(2)
		f.send, s[0].send = sendWindow(c.connection), sendWindow(c.stream)
		if got := f.acquire(s[0], c.want, c.buffered); got != c.got || int(f.send) != c.connection-got ||
			int(s[0].send) != c.stream-got {
			t.Errorf("%s: %d of %d, windows %d and %d", c.name, got, c.want, f.send, s[0].send)
		}
		if s[1].send != firstWindow {
			t.Errorf("%s: the window of another stream is %d", c.name, s[1].send)
		}
	}
}

// A window becomes negative, and what was sent counts against what it grows by (RFC 9113 §6.9.2).
func TestWindowAfterSettings(t *testing.T) {
	t.Parallel()
	f, s := streamsOf(1)
	for range 3 {
		f.acquire(s[0], 16<<10, 0)
	}
	if change := f.resize(16 << 10); !s[0].send.grow(change) || s[0].send != 16<<10-48<<10 {
		t.Fatalf("%d", s[0].send)
	}
	if f.send != firstWindow-48<<10 {
		t.Errorf("settings change the connection's window to %d", f.send)
	}
	if n := f.acquire(s[0], 1, 0); n != 0 {
		t.Errorf("%d bytes through a negative window", n)
	}
	var next streamFlow
	if f.begin(&next); next.send != 16<<10 {
		t.Errorf("a new stream begins with %d", next.send)
	}
	s[0].send.grow(32 << 10)
	if n := f.acquire(s[0], 1, 0); n != 0 {
		t.Errorf("%d bytes through an empty window", n)
	}
	s[0].send.grow(1)
	if n := f.acquire(s[0], 10, 0); n != 1 {
		t.Errorf("%d bytes through a window of one", n)
	}
	s[0].send.grow(1)
	if change := f.resize(windowMax); s[0].send.grow(change) != (int(s[0].send) <= windowMax) {
		t.Error("an overflow is not seen")
	}
	if f.resize(windowMax) != 0 {
		t.Error("the same settings change a window")
	}
}

// queued has streams wait, and returns those that have been woken.
func queued(f *flow, list []*streamFlow) (woken func() []int) {
	for _, s := range list {
		s.queued = true
		f.waiting = append(f.waiting, s)
	}
	return func() (woken []int) {
		for i, s := range list {
			select {
			case <-s.writable.woken:
				woken = append(woken, i)
			default:
			}
		}
		return woken
	}
}

func TestWakeWriters(t *testing.T) {
	t.Parallel()
	same := func(a, b []int) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	}
	for _, c := range []struct {
		name     string
		buffered int
		prepare  func(f *flow, s []*streamFlow)
		want     []int
	}{
		{"as many as there is room for", 0, nil, []int{0, 1, 2, 3}},
		{"behind a half full buffer", outMax / 2, nil, []int{0, 1}},
		{"behind a nearly full buffer", outMax - 1, nil, []int{0}},
		{"behind a full buffer", outMax, nil, nil},
		{"whose window is open", 0, func(_ *flow, s []*streamFlow) { s[0].send, s[2].send = 0, -1 }, []int{1, 3, 4, 5}},
		{"none through a closed connection", 0, func(f *flow, _ []*streamFlow) { f.send = 0 }, nil},
		{"heads through closed windows", 0,
			func(f *flow, s []*streamFlow) { f.send, s[1].send, s[1].forHead = 0, 0, true }, []int{1}},
	} {
		f, s := streamsOf(6)
		if c.prepare != nil {
			c.prepare(f, s)
		}
		woken := queued(f, s)
		f.wakeWriters(c.buffered)
		if got := woken(); !same(got, c.want) {
			t.Errorf("%s: woken are %v, want %v", c.name, got, c.want)
		}
		if len(f.waiting) != len(s)-len(c.want) {
			t.Errorf("%s: %d wait", c.name, len(f.waiting))
		}
		for _, left := range f.waiting {
			if !left.queued {
				t.Errorf("%s: one that waits does not know of it", c.name)
			}
		}
	}
	f, s := streamsOf(8)
	woken := queued(f, s)
	f.wakeWriters(0)
	woken()
	if f.wakeWriters(0); !same(woken(), []int{4, 5, 6, 7}) {
		t.Error("those that wait are not woken in turn")
	}
}

func TestWaitForRoom(t *testing.T) {
	t.Parallel()
	f, s := streamsOf(2)
	var mu sync.Mutex
	mu.Lock()
	if f.wait(s[0], &mu, time.Nanosecond) || len(f.waiting) != 0 || s[0].queued {
		t.Error("who has waited in vain waits on")
	}
	f.send = 0
	done := make(chan bool)
	go func() {
		mu.Lock()
		defer mu.Unlock()
		done <- f.wait(s[1], &mu, time.Minute)
	}()
	for len(f.waiting) == 0 { // mu is given back for it to wait
		mu.Unlock()
		mu.Lock()
	}
	f.send.grow(1)
	f.wakeWriters(0)
	mu.Unlock()
	if !<-done {
		t.Error("who is woken has waited in vain")
	}
}

// Any order of sends, updates and settings keeps the windows to what the peer has allowed: what is
// under way on all streams is never more.
func TestFlowOfBothSides(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		f, s := streamsOf(3)
		connection := newReceiveWindow(firstWindow)
		streams := []receiveWindow{newReceiveWindow(firstWindow), newReceiveWindow(firstWindow),
			newReceiveWindow(firstWindow)}
		for step := range 500 {
			i := r.IntN(len(s))
			n := f.acquire(s[i], r.IntN(40<<10), r.IntN(2*outMax))
			if n > 0 && (!connection.receive(n) || !streams[i].receive(n)) {
				t.Fatalf("seed %d, step %d: %d bytes are more than the peer allows", seed, step, n)
			}
			if !f.send.grow(int(connection.consume(n))) || !s[i].send.grow(int(streams[i].consume(n))) {
				t.Fatalf("seed %d, step %d: a window overflows", seed, step)
			}
			if int(f.send) != connection.left || int(s[i].send) != streams[i].left {
				t.Fatalf("seed %d, step %d: the two sides differ", seed, step)
			}
			if r.IntN(20) == 0 {
				change := f.resize(r.IntN(firstWindow))
				for i := range s {
					s[i].send.grow(change)
					streams[i].left += change
				}
			}
		}
	}
}

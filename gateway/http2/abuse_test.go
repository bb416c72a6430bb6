package http2

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestLeakyBucket(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	for _, c := range []struct {
		level int
		after time.Duration
		want  int
	}{
		{100, 0, 100}, {100, 99 * time.Millisecond, 100}, {100, 100 * time.Millisecond, 99}, {100, time.Second, 90},
		{100, 10 * time.Second, 0}, {100, 1000 * time.Hour, 0}, {0, time.Second, 0}, {100, -time.Second, 100},
	} {
		b := leakyBucket{level: c.level, since: start}
		if got := b.leak(start.Add(c.after), 10); got != c.want {
			t.Errorf("%d after %v: %d, want %d", c.level, c.after, got, c.want)
		}
	}
	b := leakyBucket{since: start}
	most := 0
	for i := range 10_000 { // in steps of which each leaks a part of one
		b.level++
		most = max(most, b.leak(start.Add(time.Duration(i)*50*time.Millisecond), 10))
	}
	if most < 4000 || most > 6000 {
		t.Errorf("twice the rate has come to %d, want half of 10000", most)
	}
}

// A stream whose response began may be ended by its client: browsers and gRPC's clients do it all
// the time. Any number of them leaves the connection to the others.
func TestAnsweredStreamsMayBeReset(t *testing.T) {
	t.Parallel()
	dial, _ := listen(t, Options{Handler: handler(func(s *Stream) {
		s.Head(200, nil, -1)
		s.Flush()
		<-s.Exchange.Context().Done()
	})})
	p := open(t, dial())
	id := uint32(1)
	for range 3 * resetStreamsMax {
		p.request(id, true)
		until(p, func(f *http2.MetaHeadersFrame) bool { return f.StreamID == id })
		p.WriteRSTStream(id, http2.ErrCodeCancel)
		id += 2
	}
	p.request(id, true)
	until(p, func(f *http2.MetaHeadersFrame) bool { return f.StreamID == id })
}

// A client that makes the server end its streams is a flood like one that ends them itself
// (CVE-2025-8671), whether their responses have begun or not.
func TestMadeYouReset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(p *peer, id uint32)
	}{
		{"window update of nothing", func(p *peer, id uint32) { p.WriteRawFrame(8, 0, id, make([]byte, 4)) }},
		{"window beyond its end", func(p *peer, id uint32) { p.WriteWindowUpdate(id, 1<<31-1) }},
		{"depends on itself", func(p *peer, id uint32) { p.WritePriority(id, http2.PriorityParam{StreamDep: id}) }},
		{"priority of four bytes", func(p *peer, id uint32) { p.WriteRawFrame(2, 0, id, make([]byte, 4)) }},
		{"data behind the end", func(p *peer, id uint32) { p.WriteData(id, true, nil); p.WriteData(id, false, nil) }},
		{"two heads", func(p *peer, id uint32) { p.request(id, false) }},
		{"more data than announced", func(p *peer, id uint32) { p.WriteData(id, false, make([]byte, 100_001)) }},
	} {
		for _, responds := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", c.name, responds), func(t *testing.T) {
				t.Parallel()
				dial, _ := listen(t, Options{Handler: handler(func(s *Stream) {
					if responds {
						s.Head(200, nil, -1)
						s.Flush()
					}
					<-s.Exchange.Context().Done()
				})})
				p := open(t, dial())
				p.AllowIllegalWrites = true
				go func() {
					for id := uint32(1); p.WriteSettingsAck() == nil; id += 2 {
						p.request(id, false, "content-length", "16385")
						c.fault(p, id)
					}
				}()
				switch got := p.ended(0); got {
				case "goaway ENHANCE_YOUR_CALM", "goaway FRAME_SIZE_ERROR", "closed":
				default:
					t.Errorf("got %q", got)
				}
			})
		}
	}
}

// A stream in error gets RST_STREAM and nothing behind it, whatever its handler is just writing.
func TestNothingBehindStreamError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(p *peer, id uint32)
	}{
		{"window update of nothing", func(p *peer, id uint32) { p.WriteRawFrame(8, 0, id, make([]byte, 4)) }},
		{"window beyond its end", func(p *peer, id uint32) { p.WriteWindowUpdate(id, 1<<31-1) }},
		{"second head", func(p *peer, id uint32) { p.request(id, false) }},
		{"pseudo field in a trailer", func(p *peer, id uint32) { p.request(id, true) }},
		{"more data than announced", func(p *peer, id uint32) { p.WriteData(id, false, make([]byte, 60)) }},
	} {
		for _, waits := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/waits %v", c.name, waits), func(t *testing.T) {
				t.Parallel()
				dial, _ := listen(t, Options{MaxStreams: 1 << 20, Handler: handler(func(s *Stream) {
					if waits { // for the body, and refuses the broken one
						io.Copy(io.Discard, s)
					}
					s.Head(400, nil, 231)
					s.Write(make([]byte, 231))
				})})
				var wg sync.WaitGroup
				for range 4 {
					p := open(t, dial())
					wg.Go(func() { provoke(t, p, c.fault, resetStreamsMax-10) })
				}
				wg.Wait()
			})
		}
	}
}

// provoke has n streams come into error and reads what comes of them.
func provoke(t *testing.T, p *peer, fault func(p *peer, id uint32), n int) {
	p.AllowIllegalWrites = true
	for i := range n {
		id := uint32(2*i + 1)
		p.request(id, false, "content-length", "16385")
		p.WriteData(id, false, make([]byte, 16384))
		p.WriteData(id, false, nil)
		fault(p, id)
		for failed := false; !failed; {
			f, err := p.ReadFrame()
			if err != nil {
				t.Errorf("stream %d: %v", id, err)
				return
			}
			if f.Header().StreamID == 0 || f.Header().StreamID == id-2 && i > 0 {
				if r, again := f.(*http2.RSTStreamFrame); again || f.Header().StreamID == 0 {
					_ = r
					continue
				}
				t.Errorf("stream %d: %v behind its reset", f.Header().StreamID, f)
				return
			}
			r, ok := f.(*http2.RSTStreamFrame)
			failed = ok && r.ErrCode != http2.ErrCodeNo
		}
	}
}

package rawhttp

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// doubtRest is how long the service waits for what follows a message whose end it cannot tell,
	// before it refuses it.
	doubtRest   = 150 * time.Millisecond
	streamBytes = 4 << 20 // kept of a connection
)

// probePath begins the path of requests that belong to no case.
const probePath = "/probe-"

// upstream is the service behind one gateway. It serves one case at a time.
type upstream struct {
	mu   sync.Mutex
	now  *Case
	seen *record
}

// record is what the service saw during one case.
type record struct {
	streams  map[int][]byte // every byte, by connection
	requests []string       // complete ones by the strict reading
	bodies   [][]byte       // theirs
}

func (u *upstream) begin(c *Case) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.now, u.seen = c, &record{streams: make(map[int][]byte)}
}

// end returns what was seen since begin.
func (u *upstream) end() record {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := *u.seen
	u.now, u.seen = new(Case), &record{streams: make(map[int][]byte)}
	return r
}

func (u *upstream) serve(l net.Listener) {
	for id := 0; ; id++ {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go (&serving{up: u, id: id, conn: c}).run()
	}
}

// serving is one connection of the service.
type serving struct {
	up        *upstream
	id        int
	conn      net.Conn
	unread    []byte
	responded bool // an early response to the message that is being read
}

func (s *serving) run() {
	defer s.conn.Close()
	for s.receive() {
		for {
			goOn, more := s.message()
			if !goOn {
				return
			}
			if !more {
				break
			}
		}
	}
}

func (s *serving) receive() bool {
	b := make([]byte, 64<<10)
	n, err := s.conn.Read(b)
	s.unread = append(s.unread, b[:n]...)
	s.up.mu.Lock()
	if kept := s.up.seen.streams[s.id]; n > 0 && len(kept) < streamBytes {
		s.up.seen.streams[s.id] = append(kept, b[:n]...)
	}
	s.up.mu.Unlock()
	return err == nil
}

// message answers the next message if it is there. goOn is false when the connection is to be
// closed, more when there may be another message in what was read.
func (s *serving) message() (goOn, more bool) {
	h, rest, ok := cutHead(s.unread)
	if !ok {
		return true, false
	}
	method, target := h.requestLine()
	c := s.up.current()
	if strings.HasPrefix(target, probePath) {
		c = new(Case)
	}
	if c.UpstreamMode == "early" && !s.responded {
		s.responded = true
		c.UpstreamResp.write(s.conn)
	}
	body, used, st := strictBody(h, rest)
	switch st {
	case partial:
		return true, false
	case doubtful:
		s.refuse()
		return false, false
	}
	s.unread = rest[used:]
	if !strings.HasPrefix(target, probePath) {
		s.up.note(method+" "+target, body)
	}
	return s.respond(c, method, target, len(body)), true
}

// respond writes the case's response, or else one that names the request.
func (s *serving) respond(c *Case, method, target string, length int) (goOn bool) {
	if s.responded {
		s.responded = false
		return true
	}
	if c.UpstreamMode == "drop" {
		return false
	}
	if len(c.UpstreamResp) > 0 {
		c.UpstreamResp.write(s.conn)
		return c.UpstreamMode != "close"
	}
	text := fmt.Sprintf("ECHO %s %s body=%d", method, target, length)
	fmt.Fprintf(s.conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(text))
	if method != "HEAD" {
		fmt.Fprint(s.conn, text)
	}
	return true
}

// refuse keeps what still comes, then answers as a strict server does.
func (s *serving) refuse() {
	_ = s.conn.SetReadDeadline(time.Now().Add(doubtRest)) // fails only once closed
	for s.receive() {
	}
	fmt.Fprint(s.conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\nConnection: close\r\n\r\nbad-bad\n")
}

func (u *upstream) current() *Case {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.now
}

func (u *upstream) note(request string, body []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.requests = append(u.seen.requests, request)
	u.seen.bodies = append(u.seen.bodies, append([]byte(nil), body...))
}

// write writes the script. What the other side no longer wants is not an error: it may have
// answered and closed.
func (s Script) write(c net.Conn) {
	for _, p := range s {
		_ = c.SetWriteDeadline(time.Now().Add(ioLimit))
		if _, err := c.Write(p.Bytes); err != nil {
			return
		}
		time.Sleep(p.Pause)
	}
}

package http1

import (
	"io"
	"syscall"

	"github.com/sluice-gateway/sluice/gateway/budget"
)

const (
	// spliceMin is how much has to be to come of a body, or of a chunk, for a piece of it to be spliced:
	// two calls and what belongs to them cost as much as to copy some KiB. A body of unknown length is
	// taken for a long one when it has got to spliceAfter.
	spliceMin   = 16 << 10
	spliceAfter = 64 << 10
	// spliceMost is the length of a piece. As much is drawn on the account: meanwhile the kernel keeps the
	// pages, as a buffer of ours would.
	spliceMost = 64 << 10
	// spliceLarge is that of a piece of a response whose client takes what comes at once.
	spliceLarge = 4 * spliceMost
	// pipeSize is in full pages; a piece that comes in others is shorter.
	pipeSize = spliceLarge
)

// splicing is the state of one piece on its way from a service to a client.
type splicing struct {
	to     *Request
	p      *pipe
	ahead  []byte // of the body, in the buffer
	most   int
	lacked bool  // there was no pipe, or no room in the account
	err    error // of reading
}

// ahead returns how much of the body may be taken past its buffer, behind what lies there; 0 where
// that is not worth it. sent is how much of the body there was before.
func (b *body) ahead(sent int64) int64 {
	switch b.kind {
	case sized, inChunks:
		if n := b.left - int64(b.in.w-b.in.r); n >= spliceMin {
			return n
		}
	case toClose:
		if sent >= spliceAfter {
			return spliceLarge
		}
	}
	return 0
}

// takeBuffered takes what lies in the buffer of a body that has more behind it.
func (b *body) takeBuffered() []byte {
	p := b.in.unread()
	b.in.r += len(p)
	if b.kind != toClose {
		b.left -= int64(len(p))
	}
	return p
}

// passed notes that so many bytes were taken past the buffer, or err in place of any.
func (b *body) passed(n int, err error) error {
	switch {
	case b.kind == toClose && err == io.EOF:
		b.kind = noBody
		return nil
	case err != nil:
		b.err = unexpected(err)
		return b.err
	case b.kind != toClose:
		b.left -= int64(n)
		if b.kind == sized && b.left == 0 {
			b.kind = noBody
		}
	}
	return nil
}

// CanSplice reports whether what follows of a service's body can be spliced, as far as it is known
// before: see Splice.
func (r *Request) CanSplice(a *Response) bool {
	w := &r.response
	return a.c != nil && a.c.step != nil && r.c.raw != nil && r.c.srv.Pipes != nil && !w.Bodiless && w.Err == nil &&
		a.body.ahead(w.Sent()) > 0
}

// Over reports whether the body has been read to its end.
func (r *Response) Over() bool { return r.body.done() }

// Splice passes the next piece of a service's body on without a copy into this process: splice(2)
// moves the pages from one socket to the other. It writes what is kept of the response, and what lies
// in the body's buffer, in front of it. It waits for the piece as Read does, for the client as Write
// does, and counts and bounds both as they do. here is whether the client took it; the error is one
// of reading.
//
// Not ok: Read is to go on with the body. Its rest is short, or of unknown length and not yet long, one
// of the sides is no plain socket, or there was no pipe or no room in the account.
func (r *Request) Splice(a *Response) (ok, here bool, err error) {
	if !r.CanSplice(a) {
		return false, true, nil
	}
	s, c := &a.splicing, a.c
	s.to, s.most = r, int(min(a.body.ahead(r.response.Sent()), r.pieceMost()))
	a.blocked = true
	c.armBody()
	if err := c.socket.Read(a.spliceIn); err != nil {
		s.err = err
	}
	defer a.endSplice()
	if s.lacked {
		return false, r.response.Err == nil, nil
	}
	n := 0
	if s.p != nil {
		n = s.p.held
	}
	if err := a.body.passed(n, s.err); err != nil {
		return true, r.response.Err == nil, err
	}
	if a.body.done() {
		a.releaseConn()
	}
	if n > 0 && r.response.Err == nil {
		r.response.Err = r.sendSpliced(s)
	}
	return true, r.response.Err == nil, nil
}

// pieceMost is how long the next piece may be. Where the client is slower than the service long ones save
// nothing, and what it leaves in the pipe stays drawn on its account.
func (r *Request) pieceMost() int64 {
	if r.c.slow || r.message.Account.Room(budget.Buffered) < spliceLarge {
		return spliceMost
	}
	return spliceLarge
}

// spliceStep is a [syscall.RawConn].Read's function. What is there already is only taken when more can
// follow it at once. Before it waits it gives up the pipe, which others can use meanwhile, and the
// client gets what there is.
func (a *Response) spliceStep(fd uintptr) bool {
	s := &a.splicing
	if !s.take() {
		s.lacked = true
		return true
	}
	switch s.err = s.p.fill(int(fd), s.most); {
	case s.err == nil:
		s.to.c.srv.Pipes.settle(s.p, s.to.message.Account)
		s.ahead = a.body.takeBuffered()
		return true
	case s.err == syscall.EAGAIN:
		s.err = nil
		s.release()
		_, _ = s.to.Write(a.body.takeBuffered()) // the error stays with the response
		s.to.Flush()
		a.c.armBody() // the client may have taken long for that
		return s.to.response.Err != nil
	case noSplice(s.err):
		s.err, s.lacked = nil, true
		s.release()
		s.to.c.srv.Pipes.Close()
		return true
	}
	s.release()
	_, _ = s.to.Write(a.body.takeBuffered()) // the error stays with the response
	return true
}

// take has the pipe there, and the account drawn on for it.
func (s *splicing) take() bool {
	s.p = s.to.c.srv.Pipes.lend(s.to.message.Account, s.most)
	return s.p != nil
}

func (s *splicing) release() {
	if s.p != nil {
		s.to.c.srv.Pipes.giveBack(s.p, s.to.message.Account)
		s.p = nil
	}
}

func (a *Response) endSplice() {
	a.splicing.release()
	a.splicing = splicing{}
}

// sendSpliced writes what is kept, what was ahead in the buffer and what is in the pipe.
func (r *Request) sendSpliced(s *splicing) error {
	w, c := &r.response, r.c
	n := len(s.ahead) + s.p.held
	if err := w.Piece(n); err != nil {
		return err
	}
	if w.inChunks {
		w.out = appendChunkSize(w.out, n)
	}
	s.p.ahead = [2][]byte{w.out, s.ahead}
	err := c.drain(s.p)
	if w.out = w.out[:0]; w.inChunks {
		w.out = append(w.out, '\r', '\n')
	}
	return err
}

// drain sends what is ahead of a pipe and in it.
func (c *conn) drain(p *pipe) error {
	p.waited = false
	defer func() { c.slow = p.waited }()
	if c.fd >= 0 && c.state.Load() != closing {
		if p.stepOut(uintptr(c.fd)) {
			return p.err
		}
	}
	c.armWrite()
	c.rate.writes.Store(true)
	err := c.raw.Write(p.out)
	c.rate.writes.Store(false)
	if err != nil {
		return err
	}
	return p.err
}

package http1

import (
	"errors"
	"os"
	"syscall"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// splice passes the next piece of a client's body on to the service, without a copy into this process,
// and returns how long it was: 0 where Read is to go on with the body, see [Request.Splice]. The errors
// are those of [message.Copy].
func (u *upload) splice(from *Request) (int64, error) {
	if from == nil || u.c.step == nil {
		return 0, nil
	}
	most := from.spliceable()
	if most == 0 {
		return 0, nil
	}
	u.BeforeRead()
	pipes, account := from.c.srv.Pipes, from.message.Account
	var p *pipe
	err := u.AwaitClient(func() (err error) { p, err = from.fillPipe(most); return err })
	if p != nil {
		defer func() { pipes.giveBack(p, account) }()
	}
	switch {
	case err != nil:
		u.c.armPiece() // as for a piece of nothing
		return 0, &message.ClientError{Cause: err}
	case p == nil:
		return 0, nil
	}
	n := int64(p.held)
	u.c.armPiece()
	return n, u.sendPipe(p)
}

// sendPipe sends what is in a pipe, as a chunk where the body goes out in such.
func (u *upload) sendPipe(p *pipe) error {
	if u.inChunks {
		p.ahead[0] = appendChunkSize(u.buf[:0], p.held)
	}
	err := u.c.socket.Write(p.out)
	if err == nil {
		err = p.err
	}
	if err == nil && u.inChunks {
		_, err = u.c.nc.Write(crlf)
	}
	return err
}

// spliceable returns how much of the body can be spliced now at most; 0 is nothing: Read has something
// to do first, or to say.
func (r *Request) spliceable() int {
	if r.c.raw == nil || r.c.srv.Pipes == nil || !r.in.empty() || r.body.err != nil || r.c.bodyStopped.Load() ||
		r.head.expects && !r.continued.Load() {
		return 0
	}
	n := min(r.body.ahead(0), spliceMost)
	if n > int64(r.allowed) { // more than may be read, which Read finds out
		return 0
	}
	return int(n)
}

// fillPipe waits for the next piece of the body, as Read does, and returns it in a pipe; nil when there
// is none, or no room in the account.
func (r *Request) fillPipe(most int) (p *pipe, err error) {
	c, pipes, account := r.c, r.c.srv.Pipes, r.message.Account
	var failed error
	lacked := false
	step := func(fd uintptr) bool {
		if p = pipes.lend(account, most); p == nil {
			lacked = true
			return true
		}
		if failed = p.fill(int(fd), most); failed == nil {
			return true
		}
		pipes.giveBack(p, account) // others can use it while this one waits
		p = nil
		if lacked = noSplice(failed); lacked {
			pipes.Close()
		}
		return failed != syscall.EAGAIN
	}
	for {
		c.armRead(c.srv.IdleTimeout)
		c.rate.reads.Store(true)
		if r.mayRest.Load() { // looked at behind it, since LetRest may come between
			c.rate.reads.Store(false)
		}
		if err = c.raw.Read(step); err == nil {
			err = failed
		}
		c.rate.reads.Store(false)
		switch {
		case lacked:
			return nil, nil
		case p != nil:
			r.allowed -= message.Allowance(p.held)
			return p, r.body.passed(p.held, nil)
		case c.rate.cut.Load():
			return nil, r.body.passed(0, errTooSlow)
		case !errors.Is(err, os.ErrDeadlineExceeded) || !r.mayRest.Load() || c.bodyStopped.Load() ||
			c.state.Load() == closing:
			return nil, r.body.passed(0, err)
		}
	}
}

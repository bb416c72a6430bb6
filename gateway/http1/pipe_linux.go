package http1

import (
	"io"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipe is a pipe of the kernel's: what is spliced into it are references to the pages in which it
// came, and no copies. It is for one goroutine at a time.
type pipe struct {
	read, write int
	held        int       // bytes in it
	drawn       int       // on the account of whom it is lent to
	ahead       [2][]byte // what is to be written in front of them
	out         func(fd uintptr) bool
	err         error // of out
	waited      bool  // out has, for room
	vector      [2]unix.Iovec
	message     unix.Msghdr
}

// newPipe returns an empty pipe; nil when the process has no more descriptors, or the user so many
// pages in pipes that a new one is too small to be worth its calls (pipe(7)).
func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	p := &pipe{read: fds[0], write: fds[1]}
	p.out = p.stepOut
	size, err := unix.FcntlInt(uintptr(p.write), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil {
		size, err = unix.FcntlInt(uintptr(p.write), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || size < spliceMost {
		p.close()
		return nil
	}
	return p
}

func (p *pipe) close() {
	unix.Close(p.read)
	unix.Close(p.write)
}

const spliceFlags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE

// splice calls splice(2), as send and recv call theirs: neither end waits.
func splice(from, to, n int) (int, error) {
	for {
		moved, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			spliceFlags)
		switch errno {
		case 0:
			return int(moved), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN // made once
		}
		return 0, errno
	}
}

// fill takes what there is on a socket into the empty pipe, at most so many bytes. [syscall.EAGAIN] is
// nothing.
func (p *pipe) fill(fd, most int) (err error) {
	if p.held, err = splice(fd, p.write, most); p.held == 0 && err == nil {
		err = io.EOF
	}
	return err
}

// noSplice reports whether an error of fill says that the system does not splice: a seccomp filter forbids it,
// or a sandbox lacks it. Nothing was taken, and the body can be copied.
func noSplice(err error) bool {
	return err == unix.EINVAL || err == unix.ENOSYS || err == unix.EPERM || err == unix.EOPNOTSUPP
}

// drain gives a socket what is ahead and then what is in the pipe, as much as it takes.
// [syscall.EAGAIN]: not all.
func (p *pipe) drain(fd int) error {
	for len(p.ahead[0])+len(p.ahead[1]) > 0 {
		if err := p.sendAhead(fd); err != nil {
			return err
		}
	}
	for p.held > 0 {
		n, err := splice(p.read, fd, p.held)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrNoProgress
		}
		p.held -= n
	}
	return nil
}

// stepOut is drain for [syscall.RawConn].Write: false to be called again when there is room.
func (p *pipe) stepOut(fd uintptr) bool {
	p.err = p.drain(int(fd))
	p.waited = p.waited || p.err == syscall.EAGAIN
	return p.err != syscall.EAGAIN
}

// sendAhead writes what is ahead. The kernel may keep it until what is in the pipe follows: so the
// other side is woken once for both.
func (p *pipe) sendAhead(fd int) error {
	for i, b := range p.ahead {
		p.vector[i].Base = unsafe.SliceData(b)
		p.vector[i].SetLen(len(b))
	}
	p.message.Iov = &p.vector[0]
	p.message.SetIovlen(len(p.vector))
	n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&p.message)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL|syscall.MSG_MORE)
	runtime.KeepAlive(p)
	switch errno {
	case 0:
	case syscall.EINTR:
		return nil
	case syscall.EAGAIN:
		return syscall.EAGAIN
	default:
		return errno
	}
	for i, b := range p.ahead {
		sent := min(int(n), len(b))
		p.ahead[i], n = b[sent:], n-uintptr(sent)
	}
	return nil
}

package redisx

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// rawConn returns the socket of a connection that is the system's own and nothing besides; nil of any other.
func rawConn(c net.Conn) syscall.RawConn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// receive reads what is there; [syscall.EAGAIN] is nothing. The socket does not block, so the scheduler need not be
// told of the call.
func receive(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0 && n == 0:
			return 0, io.EOF
		case errno == 0:
			return int(n), nil
		case errno == syscall.EAGAIN:
			return 0, syscall.EAGAIN // made once
		case errno != syscall.EINTR:
			return 0, errno
		}
	}
}

// idle reports whether a socket is open and there is nothing to be read.
func idle(raw syscall.RawConn) (ok bool) {
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = err == syscall.EAGAIN
	})
	return ok && err == nil
}

//go:build !linux

package http1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Elsewhere than on Linux the engine works, by the plain calls.

func recv(fd int, p []byte) (int, error) {
	for {
		if n, err := syscall.Read(fd, p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func send(fd int, p []byte) (int, error) {
	for {
		if n, err := syscall.Write(fd, p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// silent reports whether a socket is open and has nothing to read.
func silent(fd int) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(fd, b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}

// hungUp sees a connection that was reset or closed; one whose peer has only ended its sending side
// it does not see.
func hungUp(fd int) bool {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: 0}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

func unread(int) int { return 0 }

// progressOf does not know: the idle timeout is all that bounds a client there.
func progressOf(int) (p progress, ok bool) { return p, false }

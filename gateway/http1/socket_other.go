//go:build !linux

package http1

import "golang.org/x/sys/unix"

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

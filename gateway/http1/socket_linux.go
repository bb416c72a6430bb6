package http1

import "golang.org/x/sys/unix"

// hungUp reports whether the peer has ended its sending side, or the connection.
func hungUp(fd int) bool {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds[:], 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// unread returns how many bytes a read would find.
func unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// progressOf returns what a connection has moved.
func progressOf(fd int) (progress, bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return progress{}, false
	}
	return progress{received: info.Bytes_received, taken: info.Bytes_acked}, true
}

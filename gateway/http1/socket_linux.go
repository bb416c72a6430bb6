package http1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the peer has ended its sending side, or the connection.
func hungUp(fd int) bool {
	at, now := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}, unix.Timespec{}
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&at)), 1, uintptr(unsafe.Pointer(&now)),
		0, 0, 0)
	return errno == 0 && n > 0 && at.Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// unread returns how many bytes a read would find.
func unread(fd int) int {
	var n int32
	_, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// progressOf returns what a connection has moved.
func progressOf(fd int) (progress, bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return progress{}, false
	}
	return progress{received: info.Bytes_received, taken: info.Bytes_acked}, true
}

package http1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The sockets are non-blocking, so these calls take microseconds and the scheduler need not be told
// of them. To tell it costs as much as the call's way into the kernel, and more than that where the
// process is idle now and then: a call that the scheduler is told of wakes its monitor from its long
// sleep, which then looks every 20 µs for a millisecond, and ever more rarely for another ten.

// recv reads what is there; [syscall.EAGAIN] is nothing.
func recv(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN // made once
		}
		return 0, errno
	}
}

// send writes as much as the kernel takes; [syscall.EAGAIN] is nothing.
func send(fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, syscall.EAGAIN
		}
		return 0, errno
	}
}

// silent reports whether a socket is open and has nothing to read.
func silent(fd int) bool {
	var b [1]byte
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return errno == syscall.EAGAIN
		}
	}
}

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

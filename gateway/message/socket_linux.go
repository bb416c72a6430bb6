package message

import (
	"syscall"
	"unsafe"
)

// The sockets are non-blocking, so these calls take microseconds and the scheduler need not be told
// of them. To tell it costs as much as the call's way into the kernel, and more than that where the
// process is idle now and then: a call that the scheduler is told of wakes its monitor from its long
// sleep, which then looks every 20 µs for a millisecond, and ever more rarely for another ten.

const msgMore = 0x8000 // MSG_MORE, which package syscall does not have

// Recv reads what is there on a socket; [syscall.EAGAIN] is nothing.
func Recv(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd,
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

// Send writes as much to a socket as the kernel takes; [syscall.EAGAIN] is nothing. With more the
// kernel may wait for what is written next.
func Send(fd uintptr, p []byte, more bool) (int, error) {
	flags := uintptr(syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL)
	if more {
		flags |= msgMore
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
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

// Silent reports whether a socket is open and has nothing to read.
func Silent(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return errno == syscall.EAGAIN
		}
	}
}

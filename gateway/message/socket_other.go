//go:build !linux

package message

import "syscall"

// Elsewhere than on Linux the engines work, by the plain calls.

// Recv reads what is there on a socket; [syscall.EAGAIN] is nothing.
func Recv(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := syscall.Read(int(fd), p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Send writes as much to a socket as the kernel takes; [syscall.EAGAIN] is nothing.
func Send(fd uintptr, p []byte, _ bool) (int, error) {
	for {
		if n, err := syscall.Write(int(fd), p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Silent reports whether a socket is open and has nothing to read.
func Silent(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN
}

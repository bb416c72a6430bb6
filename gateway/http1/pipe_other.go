//go:build !linux

package http1

import "syscall"

// Elsewhere than on Linux there is no splice, and so no pipe.

type pipe struct {
	held  int
	ahead [2][]byte
	out   func(fd uintptr) bool
	err   error
}

func newPipe() *pipe              { return nil }
func (*pipe) close()              {}
func (*pipe) fill(int, int) error { return syscall.ENOSYS }
func (*pipe) drain(int) error     { return syscall.ENOSYS }
func noSplice(error) bool         { return true }

//go:build !linux

package http1

import "syscall"

// Elsewhere than on Linux there is no splice, and so no pipe.

type pipe struct {
	held, drawn int
	ahead       [2][]byte
	out         func(fd uintptr) bool
	err         error
	waited      bool
}

func newPipe() *pipe               { return nil }
func (*pipe) close()               {}
func (*pipe) fill(int, int) error  { return syscall.ENOSYS }
func (*pipe) stepOut(uintptr) bool { return true }
func noSplice(error) bool          { return true }

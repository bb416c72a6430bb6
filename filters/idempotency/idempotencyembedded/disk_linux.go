package idempotencyembedded

import (
	"os"
	"syscall"
)

// syncData leaves out the times of the file, which a reader does not need; its size is written.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

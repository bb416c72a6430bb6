package seglog

import (
	"os"
	"syscall"
)

// syncData leaves out the file's times, which no reader needs; its size is written.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

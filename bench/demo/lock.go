package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock takes the data folder for this process; closing the file gives it back, and so does the end
// of the process.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("demo: another demo runs on %s; --data names another folder", dir)
	}
	return f, nil
}

//go:build unix

package main

import "syscall"

// privateFiles makes the files of this process its user's own; DTM asks for mode 0666, and payloads
// and signed URLs are in there.
func privateFiles() { syscall.Umask(0o077) }

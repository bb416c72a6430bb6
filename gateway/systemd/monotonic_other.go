//go:build !linux

package systemd

// monotonicMicroseconds: systemd is Linux only; other supervisors do not look at it.
func monotonicMicroseconds() int64 { return 0 }

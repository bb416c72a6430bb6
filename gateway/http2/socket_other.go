//go:build !linux

package http2

// acknowledged is not known: the idle timeout is all that bounds a client there.
func acknowledged(int) (n uint64, ok bool) { return 0, false }

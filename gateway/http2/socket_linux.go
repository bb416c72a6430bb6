package http2

import "golang.org/x/sys/unix"

// acknowledged returns how many bytes the peer has acknowledged.
func acknowledged(fd int) (n uint64, ok bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, false
	}
	return info.Bytes_acked, true
}

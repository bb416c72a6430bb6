//go:build !linux

package redisx

import (
	"net"
	"syscall"
)

// rawConn returns nil: exchanges go by the connection's own means.
func rawConn(net.Conn) syscall.RawConn { return nil }

func receive(uintptr, []byte) (int, error) { return 0, syscall.ENOSYS }

func idle(syscall.RawConn) bool { return true }

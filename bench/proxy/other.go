//go:build !linux

package proxy

import (
	"context"
	"errors"
)

// Run needs Linux: it reads /proc, pins processes to processors and drives its load by epoll.
func Run(context.Context, Options) (*Report, error) {
	return nil, errors.New("proxy: measuring needs Linux")
}

//go:build !linux

package proxy

import (
	"context"
	"errors"
)

var errNeedsLinux = errors.New("proxy: measuring needs Linux")

// Run needs Linux: it reads /proc, pins processes to processors and drives its load by epoll.
func Run(context.Context, Options) (*Report, error) { return nil, errNeedsLinux }

// RunIdempotency needs Linux, as Run does.
func RunIdempotency(context.Context, IdempotencyOptions) (*IdempotencyReport, error) {
	return nil, errNeedsLinux
}

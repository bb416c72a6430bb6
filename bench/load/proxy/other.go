//go:build !linux

package proxy

import (
	"context"
	"errors"
)

var errNeedsLinux = errors.New("proxy: measuring needs Linux")

// Run needs Linux: it reads /proc, pins processes to processors and drives its load by epoll.
func Run(context.Context, Options) (*Report, error) { return nil, errNeedsLinux }

// Compare needs Linux, as Run does.
func Compare(context.Context, Options) (*Comparison, error) { return nil, errNeedsLinux }

// CompareIdempotency needs Linux, as Run does.
func CompareIdempotency(context.Context, IdempotencyOptions) (*Comparison, error) {
	return nil, errNeedsLinux
}

// RunIdempotency needs Linux, as Run does.
func RunIdempotency(context.Context, IdempotencyOptions) (*IdempotencyReport, error) {
	return nil, errNeedsLinux
}

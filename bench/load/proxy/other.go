//go:build !linux

package proxy

import (
	"context"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Run needs Linux: it reads /proc, pins processes to processors and drives its load by epoll.
func Run(context.Context, measure.Options) (*Report, error) { return nil, measure.ErrNeedsLinux }

// Compare needs Linux, as Run does.
func Compare(context.Context, measure.Options) (*measure.Comparison, error) {
	return nil, measure.ErrNeedsLinux
}

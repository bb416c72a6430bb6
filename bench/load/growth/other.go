//go:build !linux

package growth

import (
	"context"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Run needs Linux: it reads /proc, pins processes to processors and drives its load by epoll.
func Run(context.Context, Options) (*Report, error) { return nil, measure.ErrNeedsLinux }

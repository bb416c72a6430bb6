//go:build !linux

package transactions

import (
	"context"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// Run needs Linux: it reads the CPU clocks of processes.
func Run(context.Context, Options) (*Report, error) { return nil, measure.ErrNeedsLinux }

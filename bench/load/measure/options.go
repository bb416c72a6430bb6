package measure

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Options says what is measured and for how long.
type Options struct {
	Program  string        // this program: the gateway, and the contenders that are parts of it
	Against  string        // another build of it, for Compare
	Duration time.Duration // of one slice
	Rounds   int           // slices of each load on each contender
	// of the closed and the open loop; HTTP/2 loads have connections and streams of their own
	Connections     int
	IdleConnections int            // opened to see what one costs
	Rate            int            // requests a second of the open loop
	Only            *regexp.Regexp // contenders by name, or parts of them by "name: part"; nil is all
	Progress        io.Writer      // a bar or lines; nil is silence
	Terminal        bool           // Progress is a terminal
	JudgeBusy       bool           // on a machine too that other programs keep busy
}

const (
	connectionsMax     = 10_000
	idleConnectionsMax = 15_000 // the contenders' own limits are above that
	rateMax            = 100_000
)

// Check returns the first value out of range, by the name of its flag.
func (o *Options) Check() error {
	switch {
	case o.Duration < 10*time.Millisecond || o.Duration > time.Hour:
		return fmt.Errorf("measure: --duration is %v, want 10ms to 1h", o.Duration)
	case o.Rounds < 1:
		return fmt.Errorf("measure: --rounds is %d, want 1 or more", o.Rounds)
	case o.Connections < 1 || o.Connections > connectionsMax:
		return fmt.Errorf("measure: --connections is %d, want 1 to %d", o.Connections, connectionsMax)
	case o.IdleConnections < 1 || o.IdleConnections > idleConnectionsMax:
		return fmt.Errorf("measure: --idle is %d, want 1 to %d", o.IdleConnections, idleConnectionsMax)
	case o.Rate < 1 || o.Rate > rateMax:
		return fmt.Errorf("measure: --rate is %d, want 1 to %d", o.Rate, rateMax)
	}
	return nil
}

// ErrNeedsLinux is what measuring returns elsewhere.
var ErrNeedsLinux = errors.New("measure: measuring needs Linux")

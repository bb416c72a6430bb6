package growth

import (
	"fmt"
	"io"
	"regexp"
	"time"
)

// Options says what is measured and for how long.
type Options struct {
	Program     string         // this program: the gateway
	Duration    time.Duration  // of one slice
	Rounds      int            // slices of each load on each step
	Connections int            // keep-alive connections of the loads
	Quick       bool           // the first two steps of each axis only, and no verdicts
	Only        *regexp.Regexp // axes by name; nil is all
	Progress    io.Writer      // a bar or lines; nil is silence
	Terminal    bool           // Progress is a terminal
}

func (o *Options) check() error {
	switch {
	case o.Duration < 10*time.Millisecond || o.Duration > time.Hour:
		return fmt.Errorf("growth: --duration is %v, want 10ms to 1h", o.Duration)
	case o.Rounds < 1:
		return fmt.Errorf("growth: --rounds is %d, want 1 or more", o.Rounds)
	case o.Connections < 1 || o.Connections > 1000:
		return fmt.Errorf("growth: --connections is %d, want 1 to 1000", o.Connections)
	}
	return nil
}

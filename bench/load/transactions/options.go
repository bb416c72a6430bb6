package transactions

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"
)

// Options says what bench transactions measures and for how long.
type Options struct {
	Program     string         // this program: the gateway, and the services
	Coordinator string         // the coordinator's program, sluice-dtm
	Duration    time.Duration  // of one slice
	Rounds      int            // slices of each side, with each number of callers
	Callers     []int          // at once
	Statements  []int          // of a step of the services that do SQL; none: they are left out
	Quick       bool           // whether it runs, not how fast: one short round, and marks for counts alone
	Only        *regexp.Regexp // pairs of stores by name; nil is all
	Progress    io.Writer      // a bar or lines; nil is silence
	Terminal    bool           // Progress is a terminal
	Profile     string         // file for the gateways' CPU profile; empty: none
}

const (
	callersMax    = 256
	statementsMax = 100
	durationQuick = 300 * time.Millisecond
)

// check returns the first value out of range, by the name of its flag, and fills in what Quick says.
func (o *Options) check() error {
	if o.Quick {
		o.Duration, o.Rounds, o.Callers, o.Statements = durationQuick, 1, []int{1, 4}, nil
	}
	o.Statements = slices.DeleteFunc(slices.Clone(o.Statements), func(n int) bool { return n == 0 })
	switch {
	case o.Duration < 10*time.Millisecond || o.Duration > time.Hour:
		return fmt.Errorf("transactions: --duration is %v, want 10ms to 1h", o.Duration)
	case o.Rounds < 1:
		return fmt.Errorf("transactions: --rounds is %d, want 1 or more", o.Rounds)
	case len(o.Callers) == 0:
		return fmt.Errorf("transactions: --callers is empty")
	}
	for _, n := range o.Callers {
		if n < 1 || n > callersMax {
			return fmt.Errorf("transactions: --callers has %d, want 1 to %d", n, callersMax)
		}
	}
	for _, n := range o.Statements {
		if n < 1 || n > statementsMax {
			return fmt.Errorf("transactions: --statements has %d, want 1 to %d", n, statementsMax)
		}
	}
	return nil
}

// pair is where the gateway's records and the coordinator's transactions are.
type pair struct{ gateway, coordinator string }

// The stores, in the words of the configuration and of sluice-dtm's --store.
const (
	embedded = "embedded"
	redis    = "redis"
	bolt     = "boltdb"
)

// pairs are those that are measured.
var pairs = []pair{{embedded, bolt}, {embedded, embedded}, {redis, redis}}

func (p pair) String() string { return p.gateway + "/" + p.coordinator }

// The sides of a comparison.
const (
	byGateway = "gateway"
	byHand    = "by hand"
)

var sides = [2]string{byGateway, byHand}

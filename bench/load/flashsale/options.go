package flashsale

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bench/shop"
)

// Options say what to run. The zero value of Half, Peak and Capacity is that of the length.
type Options struct {
	Program     string // this program: gateways, shop, and the proxy of failsafe-go
	Coordinator string // the coordinator's program; empty: sluice-dtm beside this one, or in PATH
	Scenario    string // sale, a, b, c or d
	Short       bool   // two minutes in all
	Half, Peak  time.Duration
	Capacity    shop.Capacity // of each service
	Seed        uint64
	Gateways    int
	Store       string   // redis or embedded
	Faults      []string // name, name@time, or all
	Controls    []string // names of those wanted; see controlNames
	Targets     []string // URLs that the load goes to, in place of what would be started
	Profile     string   // file of the load, with Targets
	Dir         string   // folder for logs and data; empty: a temporary one that is removed
	Progress    io.Writer
	Terminal    bool // Progress is a terminal
}

// The scenarios.
const (
	scenarioSale = "sale"
	scenarioA    = "a"
	scenarioB    = "b"
	scenarioC    = "c"
	scenarioD    = "d"
)

// Scenarios are the names that Options.Scenario takes.
var Scenarios = []string{scenarioSale, scenarioA, scenarioB, scenarioC, scenarioD}

const (
	storeRedis    = "redis"
	storeEmbedded = "embedded"
	gatewaysMax   = 8
	phaseMax      = 10 * time.Minute
	ratesMax      = 20_000.0 // requests a second that one generator offers
)

// complete fills in what was left out, and returns the first value out of range.
func (o *Options) complete() error {
	half, peak := 30*time.Second, time.Minute
	if o.Short {
		half, peak = 8*time.Second, 16*time.Second
	}
	if o.Half == 0 {
		o.Half = half
	}
	if o.Peak == 0 {
		o.Peak = peak
	}
	if o.Capacity.Workers == 0 {
		o.Capacity = shop.Capacity{Workers: 8, Latency: 25 * time.Millisecond}
	}
	switch {
	case !slices.Contains(Scenarios, o.Scenario):
		return fmt.Errorf("flashsale: --scenario is %q, want one of %s", o.Scenario, strings.Join(Scenarios, ", "))
	case o.Half < time.Second || o.Half > phaseMax || o.Peak < time.Second || o.Peak > phaseMax:
		return fmt.Errorf("flashsale: phases of %v and %v, want 1s to %v", o.Half, o.Peak, phaseMax)
	case o.Gateways < 1 || o.Gateways > gatewaysMax:
		return fmt.Errorf("flashsale: --gateways is %d, want 1 to %d", o.Gateways, gatewaysMax)
	case o.Store != storeRedis && o.Store != storeEmbedded:
		return fmt.Errorf("flashsale: --store is %q, want redis or embedded", o.Store)
	case o.Store == storeEmbedded && o.Gateways > 1:
		return errors.New("flashsale: an embedded store serves one gateway: --gateways 1")
	case 10*o.Capacity.PerSecond()/busiestShare > ratesMax:
		return fmt.Errorf("flashsale: ten times %v are more than %g requests a second", o.Capacity, ratesMax)
	}
	for _, name := range o.Controls {
		if known := o.controls(); !slices.Contains(known, name) {
			return fmt.Errorf("flashsale: --controls: there is no control %q here, want some of %s", name,
				strings.Join(known, "; "))
		}
	}
	return o.checkTargets()
}

// controls are the names that Controls may have.
func (o *Options) controls() []string {
	if o.Scenario == scenarioSale {
		return ControlNames
	}
	return ScenarioControls
}

func (o *Options) checkTargets() error {
	if len(o.Targets) == 0 {
		if o.Profile != "" {
			return errors.New("flashsale: --profile needs --target: what is started here has a load of its own")
		}
		return nil
	}
	if len(o.Faults) > 0 || len(o.Controls) > 0 {
		return errors.New("flashsale: faults and controls need what is started here, not --target")
	}
	for _, target := range o.Targets {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "http" || u.Host == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("flashsale: --target %q, want http://HOST:PORT", target)
		}
	}
	return nil
}

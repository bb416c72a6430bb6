package overload

import (
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// scenario is what happens in a run.
type scenario struct {
	key      string // what --only and tests name it by
	title    string
	services []serviceSpec
	routes   []route
	gateways int // before the services; a request goes to any
	streams  []stream
	phases   []phase
	end      time.Duration // no request begins after it
	// possible is how many requests a second could be served from one time to another, given how many
	// came; nil: as many as came and the service's capacity allows.
	possible func(from, to time.Duration, came float64) float64
	judge    func(f *Finding) // adds the marks
}

// route names the services that a request goes through, one after the other.
type route struct {
	name  string
	steps []int
}

// phase is a stretch of a scenario with one name.
type phase struct {
	name     string
	from, to time.Duration
	// settle is how much of its beginning does not count for goodput.
	settle time.Duration
}

// stream is a flow of requests: Poisson arrivals of independent clients.
type stream struct {
	route   int
	rate    profile                // a second
	classes [limiter.Low + 1]share // by class
	// principals are how many ordinary ones there are. The greedy ones send that share of all.
	principals int
	greedy     float64
	// retries are how often a client tries again. A share of them, ignoring, do not wait for
	// Retry-After.
	retries  int
	ignoring float64
}

type share = float64

const (
	greedyPrincipals = 4
	// clientTimeout is how long a client waits for a response.
	clientTimeout = time.Second
	// backOffLeast and backOffMost are between two attempts of a client that was told nothing, or does
	// not listen.
	backOffLeast, backOffMost = 50 * time.Millisecond, 150 * time.Millisecond
	// patienceMost is how much later than told a client comes that listens.
	patienceMost = 50 * time.Millisecond
)

// usual is the mix of the issue: 5 % critical, the rest normal and low.
var usual = [limiter.Low + 1]share{limiter.Critical: 0.05, limiter.Normal: 0.50, limiter.Low: 0.45}

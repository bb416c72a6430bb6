package envoyratelimit

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	envoyratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
)

var (
	rounds = flag.Int("rounds", 5, "of the measurement of processor time")
	calls  = flag.Int("calls", 6000, "of each service in a round")
)

// mark is the processor time of a call as a part of theirs.
const mark = 0.5

const (
	atOnce      = 32 // calls
	connections = 2  // an Envoy has one for each of its workers
	users       = 1000
)

// TestCPU measures the processor time of a call: ours and theirs in turn, the same calls to both,
// on the same Redis.
func TestCPU(t *testing.T) {
	redis := startRedis(t)
	ours := startOurs(t, redis, `  user:
    rate: 1000000/h
    compat: fixed-window
    descriptor: {domain: cpu, entries: [{key: user}]}
  all: {rate: 1000000000/h, compat: fixed-window, descriptor: {domain: cpu, entries: [{key: all}]}}
  none: {rate: 1/h, compat: fixed-window, descriptor: {domain: cpu, entries: [{key: none}]}}
`)
	theirs := startTheirs(t, redis, map[string]string{"cpu.yaml": `domain: cpu
descriptors:
  - {key: user, rate_limit: {unit: hour, requests_per_unit: 1000000}}
  - {key: all, rate_limit: {unit: hour, requests_per_unit: 1000000000}}
  - {key: none, rate_limit: {unit: hour, requests_per_unit: 1}}
`})
	for _, load := range []struct {
		name string
		make func(i int) []*envoyratelimit.RateLimitDescriptor
	}{
		{"one descriptor", func(i int) []*envoyratelimit.RateLimitDescriptor {
			return []*envoyratelimit.RateLimitDescriptor{one("user", i)}
		}},
		{"two descriptors", func(i int) []*envoyratelimit.RateLimitDescriptor {
			return []*envoyratelimit.RateLimitDescriptor{one("all", 0), one("user", i)}
		}},
		{"refused", func(i int) []*envoyratelimit.RateLimitDescriptor {
			return []*envoyratelimit.RateLimitDescriptor{one("none", i%10)}
		}},
	} {
		t.Run(load.name, func(t *testing.T) {
			drive(t, ours, *calls/4, load.make) // connections, scripts, buffers
			drive(t, theirs, *calls/4, load.make)
			var ratios []float64
			var a, b time.Duration
			for range *rounds {
				x, y := drive(t, ours, *calls, load.make), drive(t, theirs, *calls, load.make)
				a, b, ratios = a+x, b+y, append(ratios, float64(x)/float64(y))
			}
			n := time.Duration(*rounds * *calls)
			slices.Sort(ratios)
			median := ratios[len(ratios)/2]
			t.Logf("ours %v, theirs %v a call; median of the ratios %.2f, from %.2f to %.2f",
				(a / n).Round(100*time.Nanosecond),
				(b / n).Round(100*time.Nanosecond), median, ratios[0], ratios[len(ratios)-1])
			if median > mark {
				t.Errorf("%.2f of the processor time of theirs, want %.2f at most", median, mark)
			}
		})
	}
}

func one(key string, user int) *envoyratelimit.RateLimitDescriptor {
	return &envoyratelimit.RateLimitDescriptor{Entries: []*envoyratelimit.RateLimitDescriptor_Entry{
		{Key: key, Value: fmt.Sprintf("user-%06d", user%users)},
	}}
}

// drive makes so many calls of a service and returns the processor time that it took for them.
func drive(t *testing.T, p *process, calls int,
	descriptors func(i int) []*envoyratelimit.RateLimitDescriptor) time.Duration {
	t.Helper()
	var clients []rls.RateLimitServiceClient
	for range connections {
		c := p.client(t)
		if _, err := ask(t, c, &rls.RateLimitRequest{Domain: "cpu", Descriptors: descriptors(0)}); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	before := p.cpu(t)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range atOnce {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > calls {
					return
				}
				_, err := ask(t, clients[w%connections], &rls.RateLimitRequest{Domain: "cpu",
					Descriptors: descriptors(i)})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return p.cpu(t) - before
}

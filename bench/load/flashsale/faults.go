package flashsale

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
)

// fault is something that goes wrong for a time. Between begin and end the load goes on.
type fault struct {
	name  string
	what  string
	lasts time.Duration // in a run of usual length; an outage lasts as long in any
	at    float64       // of `all`: when it begins, as a share of the run
	begin func(ctx context.Context, w *world) error
	end   func(ctx context.Context, w *world) error // nil: nothing to undo
}

// lastsLeast is how long a fault lasts at least, also where a short run shortens it.
const lastsLeast = time.Second

// outage is how long a killed process is gone: a supervisor starts it again. It is no shorter in a short run: Redis'
// master would be back before the sentinels have missed it.
const outage = 2 * time.Second

// afterLeast is how long the load goes on at least after a fault has ended, so that it can be seen what came of it.
const afterLeast = 2 * time.Second

const (
	killGateway = "kill-gateway"
	killRedis   = "kill-redis"
)

// faults are all, in the order in which `all` has them. The first two meet the moments in which
// most is sold.
func faults() []fault {
	return []fault{
		{killGateway, "kill -9 of a gateway, started again after 2 s", outage, 0.255, killLastGateway,
			restartLastGateway},
		{killRedis, "kill -9 of Redis' master, back as a replica after 2 s and the failover", outage, 0.32,
			func(_ context.Context, w *world) error { w.redis.killMaster(); return nil },
			func(ctx context.Context, w *world) error { return w.redis.restart(ctx) }},
		{"payment-slow", "payment ten times slower", 15 * time.Second, 0.39,
			capacityOf("payment", 10), capacityOf("payment", 1)},
		{"stock-resets", "stock resets connections", 5 * time.Second, 0.53,
			shopFault("stock", `{"reset":true}`), shopHeal("stock")},
		{"kill-coordinator", "kill -9 of the coordinator, started again after 2 s", outage, 0.58,
			func(_ context.Context, w *world) error { w.coordinator.kill(); return nil },
			func(ctx context.Context, w *world) error { return w.coordinator.start(ctx) }},
		{"stop-gateway", "SIGSTOP of a gateway", 5 * time.Second, 0.65,
			signalGateway(syscall.SIGSTOP), signalGateway(syscall.SIGCONT)},
		{"bad-config", "a bad configuration is pushed", time.Second, 0.72, pushBadConfig, replaceBadConfig},
		{"good-configs", "five good configurations are pushed, a second apart", 5 * time.Second, 0.76,
			pushGoodConfigs, restoreConfig},
		{"payment-silent", "payment charges and does not answer", 5 * time.Second, 0.84,
			shopFault("payment", `{"dropAnswer":true}`), shopHeal("payment")},
	}
}

// FaultNames are those that Options.Faults takes, beside all.
func FaultNames() (names []string) {
	for _, f := range faults() {
		names = append(names, f.name)
	}
	return names
}

// planned is a fault and when it begins.
type planned struct {
	fault
	begins time.Duration
}

// planFaults reads what was asked for: name, name@time, or all.
func planFaults(asked []string, o *Options) ([]planned, error) {
	length := 2*o.Half + o.Peak
	usual := 2 * time.Minute
	var plan []planned
	add := func(f fault, at time.Duration) {
		if f.lasts != outage {
			scaled := time.Duration(float64(f.lasts) * float64(length) / float64(usual))
			f.lasts = min(f.lasts, max(scaled.Round(time.Millisecond), lastsLeast))
		}
		plan = append(plan, planned{f, at})
	}
	for _, text := range asked {
		name, when, timed := strings.Cut(text, "@")
		if name == "all" && !timed {
			for _, f := range faults() {
				begins := time.Duration(f.at * float64(length))
				if n := len(plan); n > 0 && begins < plan[n-1].begins+plan[n-1].lasts {
					return nil, fmt.Errorf("flashsale: --faults all: in a run of %v %s would begin before %s is over: "+
						"want longer --half and --peak, 32s in all at least", length, f.name, plan[n-1].name)
				}
				add(f, begins)
			}
			continue
		}
		i := slices.IndexFunc(faults(), func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("flashsale: --fault: there is no fault %q, want all or one of %s", name,
				strings.Join(FaultNames(), ", "))
		}
		f := faults()[i]
		at := time.Duration(f.at * float64(length))
		if timed {
			var err error
			if at, err = time.ParseDuration(when); err != nil || at < 0 || at > length {
				return nil, fmt.Errorf("flashsale: --fault %s: want NAME@TIME with a time up to %v", text, length)
			}
		}
		add(f, at)
	}
	slices.SortStableFunc(plan, func(a, b planned) int { return int(a.begins - b.begins) })
	for _, p := range plan {
		if err := o.allows(p.name); err != nil {
			return nil, err
		}
		if left := length - p.begins - p.lasts; left < afterLeast {
			return nil, fmt.Errorf("flashsale: --fault %s: it would begin at %v of %v and last for %v, and %v have to "+
				"be left to see what comes of it: want an earlier time, or longer --half and --peak", p.name,
				p.begins.Round(time.Millisecond), length, p.lasts, afterLeast)
		}
	}
	return plan, nil
}

// allows tells whether there will be what the fault breaks.
func (o *Options) allows(name string) error {
	if name == killRedis && o.Store != storeRedis {
		return errors.New("flashsale: --fault kill-redis needs --store redis")
	}
	return nil
}

// killsRedis tells whether the master is to be killed: then there is a replica, and sentinels.
func (w *world) killsRedis() bool {
	return slices.ContainsFunc(w.o.Faults, func(text string) bool {
		return text == "all" || strings.HasPrefix(text, killRedis)
	})
}

// FaultFigures are one fault and what came after it.
type FaultFigures struct {
	Name  string  `json:"name"`
	What  string  `json:"what"`
	Began float64 `json:"began"` // seconds
	Ended float64 `json:"ended"`
	// Gap is how long requests failed, from the first that did to the last before the next fault;
	// Recovery how long after the fault had ended.
	Gap      float64 `json:"gap"`
	Recovery float64 `json:"recovery"`
	Error    string  `json:"error,omitempty"`
}

// inject carries out the plan beside a run that has begun, and returns what was done when ctx ends
// or all of it is over.
func (w *world) inject(ctx context.Context, plan []planned, began time.Time) []FaultFigures {
	figures := make([]FaultFigures, len(plan))
	var all sync.WaitGroup
	for i, p := range plan {
		all.Go(func() {
			f := FaultFigures{Name: p.name, What: p.what}
			defer func() { figures[i] = f }()
			if !sleepUntil(ctx, began.Add(p.begins)) {
				f.Error = "the run was over before"
				return
			}
			f.Began = time.Since(began).Seconds()
			err := p.begin(ctx, w)
			sleepUntil(ctx, began.Add(p.begins+p.lasts))
			f.Ended = time.Since(began).Seconds()
			if p.end != nil {
				err = errors.Join(err, p.end(context.WithoutCancel(ctx), w))
			}
			if err != nil {
				f.Error = err.Error()
			}
		})
	}
	all.Wait()
	return figures
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

const (
	failBucket = 250 * time.Millisecond
	failShare  = 0.05 // of the requests of a bucket: more, and the system has not recovered
	failLeast  = 3    // requests: a single one is no outage
)

// recoveries fills in how long requests failed after each fault. What is shed is not a failure.
func recoveries(all []FaultFigures, samples []openloop.Sample, length time.Duration) {
	buckets := make([][2]int, int(length/failBucket)+1)
	for _, s := range samples {
		i := int(s.At / failBucket)
		if i >= len(buckets) || s.Outcome == openloop.Unsent {
			continue
		}
		buckets[i][0]++
		if !served(s) && s.Outcome != openloop.Shed {
			buckets[i][1]++
		}
	}
	for i := range all {
		until := length.Seconds()
		if i+1 < len(all) {
			until = max(all[i].Ended, all[i+1].Began)
		}
		first, last := -1.0, -1.0
		for j, b := range buckets {
			at := float64(j) * failBucket.Seconds()
			if at+failBucket.Seconds() <= all[i].Began || at >= until || b[1] < failLeast ||
				float64(b[1]) < failShare*float64(b[0]) {
				continue
			}
			if first < 0 {
				first = at
			}
			last = at + failBucket.Seconds()
		}
		if first >= 0 {
			all[i].Gap = last - first
			all[i].Recovery = max(0, last-all[i].Ended)
		}
	}
}

// What the faults do.

func lastGateway(w *world) *gateway { return w.gateways[len(w.gateways)-1] }

func killLastGateway(_ context.Context, w *world) error { lastGateway(w).kill(); return nil }

func restartLastGateway(ctx context.Context, w *world) error { return lastGateway(w).start(ctx) }

// signalGateway meets the first gateway: the last one may be dead.
func signalGateway(s syscall.Signal) func(context.Context, *world) error {
	return func(_ context.Context, w *world) error {
		w.gateways[0].process.Signal(s)
		return nil
	}
}

func capacityOf(service string, slower int) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		c := w.capacity[service]
		c.Latency *= time.Duration(slower)
		return w.setCapacity(ctx, service, c)
	}
}

func shopFault(service, body string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		return w.tell(ctx, http.MethodPost, service, "/faults", body)
	}
}

func shopHeal(service string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		return w.tell(ctx, http.MethodDelete, service, "/faults", "")
	}
}

// push replaces a gateway's configuration all at once; the gateway notices by itself.
func (w *world) push(g *gateway, text []byte) error {
	next := g.config + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, g.config)
}

func pushBadConfig(_ context.Context, w *world) (err error) {
	for _, g := range w.gateways {
		text, made := w.configText(g, serviceTimeout)
		err = errors.Join(err, made, w.push(g, append(text, []byte("\nrouts: []\n")...)))
	}
	return err
}

// replaceBadConfig waits until each gateway has noticed the bad one, and refused it: else nothing was tested.
func replaceBadConfig(ctx context.Context, w *world) (err error) {
	for _, g := range w.gateways {
		err = errors.Join(err, awaitRefusal(ctx, g))
	}
	return errors.Join(err, restoreConfig(ctx, w))
}

func awaitRefusal(ctx context.Context, g *gateway) error {
	for deadline := time.Now().Add(startLimit); ; {
		n, err := metric(ctx, g.admin, `sluice_config_reloads_total{result="refused"}`)
		if err == nil && n > 0 {
			return nil
		}
		if !sleepUntil(ctx, time.Now().Add(50*time.Millisecond)) || time.Now().After(deadline) {
			return fmt.Errorf("flashsale: %s did not notice the bad configuration: nothing was tested", g.name)
		}
	}
}

func restoreConfig(_ context.Context, w *world) (err error) {
	for _, g := range w.gateways {
		text, made := w.configText(g, serviceTimeout)
		err = errors.Join(err, made, w.push(g, text))
	}
	return err
}

const goodConfigs = 5

// pushGoodConfigs changes a time-out five times.
func pushGoodConfigs(ctx context.Context, w *world) (err error) {
	for i := range goodConfigs {
		for _, g := range w.gateways {
			text, made := w.configText(g, serviceTimeout+time.Duration(i+1)*time.Millisecond)
			err = errors.Join(err, made, w.push(g, text))
		}
		if !sleepUntil(ctx, time.Now().Add(time.Second)) {
			break
		}
	}
	return err
}

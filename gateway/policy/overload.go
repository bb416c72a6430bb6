package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/overload"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// overloadPolicy bounds what a service has to work on at once, and queues and sheds what is beyond.
// All chains that lead to a service share its limiter.
type overloadPolicy struct {
	ofService
	env       *Env
	services  *Pool[string, *overload.Service] // by name
	processes *Pool[struct{}, *guarded]        // one, while any service has overload
	queueWait *metric.HistogramVec             // service
}

func newOverload(env *Env) Policy {
	p := &overloadPolicy{
		env:       env,
		services:  NewPool[string, *overload.Service](env, nil),
		processes: NewPool[struct{}](env, (*guarded).close),
		queueWait: env.Metrics.Histogram("overload_queue_wait_seconds",
			"Time that requests waited in the queue in front of a service because they did not get a permit at once, "+
				"in seconds, those that were shed in the end too.", "service"),
	}
	env.Metrics.Add(&overloadCollector{p})
	return p
}

// guarded is what the limiters of the process share, with its guard at work.
type guarded struct {
	*overload.Process
	stop context.CancelFunc
	done chan struct{}
}

func (p *overloadPolicy) guard() (*guarded, error) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guarded{overload.NewProcess(p.env.Now()), cancel, make(chan struct{})}
	go func() {
		defer close(g.done)
		var fleet sync.WaitGroup
		defer fleet.Wait()
		fleet.Go(func() { p.followFleet(ctx) })
		g.Guard.Run(ctx, p.env.Pressure)
	}()
	return g, nil
}

const fleetEvery = 5 * time.Second

// followFleet tells the limiters how many gateways there are, until ctx ends.
func (p *overloadPolicy) followFleet(ctx context.Context) {
	if p.env.Stores.LiveGateways == nil {
		return
	}
	tick := time.NewTicker(fleetEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n := p.env.Stores.LiveGateways()
			for _, s := range p.services.All() {
				s.SetGateways(n, p.env.Now())
			}
		}
	}
}

func (g *guarded) close() {
	g.stop()
	<-g.done
}

func (p *overloadPolicy) Name() string { return "overload" }

func (p *overloadPolicy) Applies(s Scope) bool {
	return s.ServiceConfig != nil && s.ServiceConfig.Overload != nil || len(doorsOf(s)) > 0
}

// doorsOf returns the services with overload that the transaction of a route calls.
func doorsOf(s Scope) (doors []Step) {
	for _, step := range s.Steps {
		if step.Config != nil && step.Config.Overload != nil {
			doors = append(doors, step)
		}
	}
	return doors
}

// overloadFilterKey names the filter that the chains of a build share that lead to one service with
// one priority; the gateway's own calls have none.
type overloadFilterKey struct {
	service    string
	priority   config.Priority
	claimFirst bool
}

func (p *overloadPolicy) Filter(b *Build, s Scope) (filters.Filter, error) {
	if s.ServiceConfig == nil {
		return p.door(b, s)
	}
	key := overloadFilterKey{service: s.Service}
	if s.Route != nil {
		key.priority, key.claimFirst = s.Route.Priority, fallsBack(s)
	}
	return once(b, key, func() (filters.Filter, error) {
		service, err := p.service(b, s.Service, s.ServiceConfig)
		if err != nil {
			return nil, err
		}
		o := overload.Options{
			Service: service, Class: classOf(key.priority), ClaimFirst: key.claimFirst,
			QueueWait: p.queueWait.WithLabelValues(s.Service), Now: p.env.Now, Logger: p.env.Logger,
		}
		if p.env.elapsed { // the filter counts so itself, at less cost
			o.Now = nil
		}
		if s.Kind == BranchChain {
			if o.ClassOf, err = once(b, classesKey{}, func() (func(string) overload.Class, error) {
				return classesOf(b.Config), nil
			}); err != nil {
				return nil, err
			}
		}
		return overload.NewFilter(o), nil
	})
}

// fallsBack reports whether a refusal for overload has the route do something else. That must not be done for a request
// of which an earlier attempt may have been executed: the record of its key is asked first.
func fallsBack(s Scope) bool {
	return s.Route.Fallback != nil && slices.Contains(s.Route.Fallback.On, config.FallbackOverloaded)
}

// door returns what looks at the requests of a transaction before their claims.
func (p *overloadPolicy) door(b *Build, s Scope) (filters.Filter, error) {
	var services []*overload.Service
	for _, step := range doorsOf(s) {
		service, err := p.service(b, step.Service, step.Config)
		if err != nil {
			return nil, err
		}
		services = append(services, service)
	}
	return overload.NewDoor(services, overload.Options{Class: classOf(s.Route.Priority), Now: p.env.Now,
		Logger: p.env.Logger}), nil
}

// classesKey names the classes of all routes within a build.
type classesKey struct{}

// service returns the limiter of a service.
func (p *overloadPolicy) service(b *Build, name string, c *config.Service) (*overload.Service, error) {
	settings := overloadSettings(c.Overload)
	if err := settings.Check(); err != nil {
		return nil, err
	}
	process, err := Use(b, p.processes, struct{}{}, p.guard, nil)
	if err != nil {
		return nil, err
	}
	return Use(b, p.services, name,
		func() (*overload.Service, error) {
			return overload.NewService(name, settings, process.Process, p.env.Now()), nil
		},
		func(s *overload.Service) { s.Configure(settings, p.env.Now()) })
}

// overloadSettings are those of a service; how many gateways use it is told later.
func overloadSettings(c *config.Overload) overload.Settings {
	return overload.Settings{
		Adaptive: c.Concurrency.Fixed == 0, Min: c.Min, Max: c.Max, Concurrency: c.Concurrency.Fixed,
		QueueSize: c.Queue.Size, QueueWait: time.Duration(c.Queue.Wait), Streams: c.Streams,
	}
}

func classOf(p config.Priority) overload.Class {
	switch p {
	case config.PriorityCritical:
		return overload.Critical
	case config.PriorityHigh:
		return overload.High
	case config.PriorityLow:
		return overload.Low
	}
	return overload.Normal
}

// classesOf returns the classes of a configuration's routes, by their names.
func classesOf(cfg *config.Config) func(route string) overload.Class {
	classes := make(map[string]overload.Class, len(cfg.Routes))
	for _, r := range cfg.Routes {
		classes[r.Name] = classOf(r.Priority)
	}
	return func(route string) overload.Class {
		if c, ok := classes[route]; ok {
			return c
		}
		return overload.Normal
	}
}

func (p *overloadPolicy) Explain(e *Explainer, s Scope) bool {
	if s.ServiceConfig == nil {
		names := make([]string, 0, len(s.Steps))
		for _, door := range doorsOf(s) {
			names = append(names, door.Service)
		}
		e.Line("overload", "asked before anything begins: %s, priority %s", strings.Join(names, ", "), s.Route.Priority)
		return true
	}
	c := s.ServiceConfig.Overload
	bound := fmt.Sprintf("%d at once", c.Concurrency.Fixed)
	if c.Concurrency.Fixed == 0 {
		bound = fmt.Sprintf("adaptive, %d to %d at once", c.Min, c.Max)
	}
	queue := "no queue"
	if c.Queue.Size > 0 {
		queue = fmt.Sprintf("a queue of %d for at most %s", c.Queue.Size, c.Queue.Wait)
	}
	priority := config.PriorityNormal
	if s.Route != nil {
		priority = s.Route.Priority
	}
	e.Line("overload", "%s: %s, %s, priority %s, at most %d streams", s.Service, bound, queue, priority, c.Streams)
	return true
}

// Overloads is how the limiter of each service stands, by service.
type Overloads map[string]OverloadStatus

// OverloadStatus is how one limiter stands. Counts by class have those that are not zero.
type OverloadStatus struct {
	Limit      int                       `json:"limit"`
	InFlight   int                       `json:"in_flight"`
	Streams    int                       `json:"streams"`
	Reserved   int                       `json:"reserved"` // for steps of transactions that have begun
	Queued     map[string]int            `json:"queued,omitempty"`
	Shed       map[string]map[string]int `json:"shed,omitempty"` // by class and cause, since the limiter was made
	BaselineMS float64                   `json:"baseline_ms"`
	LatencyMS  float64                   `json:"latency_ms"`
	Overloaded bool                      `json:"overloaded"`
	Guard      string                    `json:"guard,omitempty"` // what the process itself sheds
}

func (p *overloadPolicy) Status() Status {
	all := Overloads{}
	guard := p.guardStatus()
	for name, s := range p.services.All() {
		snapshot := s.Limiter.Snapshot()
		o := OverloadStatus{
			Limit: snapshot.Limit, InFlight: snapshot.InFlight, Streams: snapshot.Streams,
			Reserved: snapshot.Reserved, BaselineMS: milliseconds(snapshot.Baseline),
			LatencyMS: milliseconds(snapshot.Latency), Overloaded: snapshot.Overloaded, Guard: guard,
		}
		for c := overload.Critical; c <= overload.Low; c++ {
			if n := snapshot.QueuedByClass[c]; n > 0 {
				if o.Queued == nil {
					o.Queued = map[string]int{}
				}
				o.Queued[c.String()] = n
			}
		}
		eachShed(s, &snapshot, func(c overload.Class, cause string, n uint64) {
			if o.Shed == nil {
				o.Shed = map[string]map[string]int{}
			}
			if o.Shed[c.String()] == nil {
				o.Shed[c.String()] = map[string]int{}
			}
			o.Shed[c.String()][cause] = int(n)
		})
		all[name] = o
	}
	if len(all) == 0 {
		return Status{}
	}
	return Status{Member: "overload", Value: all}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (p *overloadPolicy) guardStatus() string {
	for _, g := range p.processes.All() {
		return g.Guard.Level().String()
	}
	return ""
}

// eachShed calls do for each class and cause of which something was shed.
func eachShed(s *overload.Service, snapshot *overload.Snapshot, do func(c overload.Class, cause string, n uint64)) {
	for c := overload.Critical; c <= overload.Low; c++ {
		for cause, n := range snapshot.Shed[c] {
			if n > 0 {
				do(c, overload.Cause(cause).String(), n)
			}
		}
		if n := s.Guarded(c); n > 0 {
			do(c, overload.GatewayShort, n)
		}
	}
}

// overloadCollector reads the limiters when metrics are asked for, so that requests count nothing
// twice.
type overloadCollector struct{ policy *overloadPolicy }

var (
	overloadLimit = metric.NewDesc(metric.Gauge, "overload_limit",
		"How many requests a service may have to work on at once now: its fixed concurrency, or what the adaptive "+
			"limit has found.", "service")
	overloadInFlight = metric.NewDesc(metric.Gauge, "overload_in_flight",
		"Requests that a service works on and that count against sluice_overload_limit.", "service")
	overloadStreams = metric.NewDesc(metric.Gauge, "overload_streams",
		"Streams to a service that are open behind the heads of their responses; they are bounded apart from other "+
			"requests.", "service")
	overloadReserved = metric.NewDesc(metric.Gauge, "overload_reserved",
		"Places at a service that are set aside for later steps of transactions that have begun.", "service")
	overloadQueued = metric.NewDesc(metric.Gauge, "overload_queued",
		"Requests that wait for a permit to go to a service, by their class: critical, high, normal, low.", "service",
		"class")
	overloadShed = metric.NewDesc(metric.Counter, "overload_shed_total",
		"Requests that were refused with overloaded in place of being sent to a service, by their class and why.",
		"service", "class", "cause")
	overloadLatency = metric.NewDesc(metric.Gauge, "overload_latency_seconds",
		"Latency of a service as the adaptive limit sees it, in seconds: recent, and the baseline that it is compared "+
			"with.", "service", "kind")
	overloadGuard = metric.NewDesc(metric.Gauge, "overload_guard",
		"What the gateway sheds because it is itself short of processor time, memory or descriptors: 0 nothing, 1 "+
			"requests of class low, 2 normal too, 3 high too.")
	overloadGuardDelay = metric.NewDesc(metric.Gauge, "overload_guard_delay_seconds",
		"How late goroutines of the gateway woke at least in the last window of its guard, in seconds: it is short of "+
			"processor time where this grows.")
)

// Descs implements [metric.Collector].
func (o *overloadCollector) Descs() []*metric.Desc {
	return []*metric.Desc{overloadLimit, overloadInFlight, overloadStreams, overloadReserved, overloadQueued,
		overloadShed, overloadLatency, overloadGuard, overloadGuardDelay}
}

// Collect implements [metric.Collector].
func (o *overloadCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *metric.Desc, v float64, labels ...string) { to <- d.Value(v, labels...) }
	for name, s := range o.policy.services.All() {
		snapshot := s.Limiter.Snapshot()
		gauge(overloadLimit, float64(snapshot.Limit), name)
		gauge(overloadInFlight, float64(snapshot.InFlight), name)
		gauge(overloadStreams, float64(snapshot.Streams), name)
		gauge(overloadReserved, float64(snapshot.Reserved), name)
		gauge(overloadLatency, snapshot.Latency.Seconds(), name, "recent")
		gauge(overloadLatency, snapshot.Baseline.Seconds(), name, "baseline")
		for c := overload.Critical; c <= overload.Low; c++ {
			gauge(overloadQueued, float64(snapshot.QueuedByClass[c]), name, c.String())
		}
		eachShed(s, &snapshot, func(c overload.Class, cause string, n uint64) {
			to <- overloadShed.Value(float64(n), name, c.String(), cause)
		})
	}
	for _, g := range o.policy.processes.All() {
		gauge(overloadGuard, float64(g.Guard.Level()))
		gauge(overloadGuardDelay, g.Guard.Lateness().Seconds())
	}
}

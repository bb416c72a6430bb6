package overload

import (
	"math/rand/v2"
	"time"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

const (
	workers  = 8
	workMean = 25 * time.Millisecond
	// fullRate is what a service of the issue can do in a second.
	fullRate = 320.0
)

// usualService is the service of the issue.
func usualService() serviceSpec {
	return serviceSpec{name: "service", workers: constant(workers), mean: workMean}
}

// single makes a scenario of one service and one stream.
func single(key, title string, service serviceSpec, s stream, phases ...phase) scenario {
	return scenario{key: key, title: title, services: []serviceSpec{service}, routes: []route{{"all", []int{0}}},
		streams: []stream{s}, phases: phases, end: phases[len(phases)-1].to}
}

// lengths has the durations of the phases. The short form keeps every phase long enough to judge.
type lengths struct{ before, during, after time.Duration }

func (l lengths) phases(during, after string, settle time.Duration) []phase {
	return []phase{
		{name: "before", to: l.before},
		{name: during, from: l.before, to: l.before + l.during, settle: settle},
		{name: after, from: l.before + l.during, to: l.before + l.during + l.after, settle: time.Second},
	}
}

// end is when the middle phase ends.
func (l lengths) end() time.Duration { return l.before + l.during }

// middle returns a profile that has another value in the middle phase.
func (l lengths) middle(usual, during float64) profile {
	return steps(point{0, usual}, point{l.before, during}, point{l.end(), usual})
}

// scenarios returns all of them. The short ones have shorter phases.
func scenarios(short bool) []scenario {
	l := lengths{10 * time.Second, 30 * time.Second, 15 * time.Second}
	change := lengths{10 * time.Second, 15 * time.Second, 15 * time.Second}
	if short {
		l = lengths{5 * time.Second, 12 * time.Second, 6 * time.Second}
		change = lengths{6 * time.Second, 10 * time.Second, 8 * time.Second}
	}
	return []scenario{
		burst(l), slower(change), lessWorkers(change), creepSlower(short), creepWorkers(short), steps3(l),
		replicas(l, 2), replicas(l, 4), slowStart(l), bimodal(l), inversion(l), failingFast(change), storm(change),
		impatient(change),
	}
}

func shopper(rate profile) stream {
	return stream{rate: rate, classes: usual, principals: 2000, greedy: 0.2}
}

func retrying(rate profile, retries int) stream {
	s := shopper(rate)
	s.retries, s.ignoring = retries, 0.5
	return s
}

// burst is scenario A.
func burst(l lengths) scenario {
	s := single("A", "ten times the capacity", usualService(), shopper(l.middle(0.5*fullRate, 10*fullRate)),
		l.phases("10 C", "after", 0)...)
	s.judge = judgeBurst
	return s
}

// slower is scenario C: calls take three times as long.
func slower(l lengths) scenario {
	service := usualService()
	service.speed = l.middle(1, 1.0/3)
	s := single("C", "a third of the capacity: calls take three times as long", service,
		retrying(constant(0.9*fullRate), 2), l.phases("C / 3", "after", 2*time.Second)...)
	s.judge = judgeDrop
	return s
}

// lessWorkers is scenario C with two thirds of the workers gone.
func lessWorkers(l lengths) scenario {
	service := usualService()
	service.workers = l.middle(9, 3)
	service.mean = time.Duration(9 / fullRate * float64(time.Second))
	s := single("C-workers", "a third of the capacity: two of three workers gone", service,
		retrying(constant(0.9*fullRate), 2), l.phases("C / 3", "after", 2*time.Second)...)
	s.judge = judgeDrop
	return s
}

func creepLengths(short bool) lengths {
	if short {
		return lengths{5 * time.Second, 40 * time.Second, 10 * time.Second}
	}
	return lengths{10 * time.Second, 60 * time.Second, 20 * time.Second}
}

func creepPhases(l lengths) []phase {
	p := l.phases("creeping", "half", 0)
	p[2].settle = 0
	return p
}

// creepSlower is scenario D: calls come to take twice as long.
func creepSlower(short bool) scenario {
	l := creepLengths(short)
	service := usualService()
	service.speed = profile{{l.before, 1}, {l.end(), 0.5}}
	s := single("D", "capacity creeps to a half: calls come to take twice as long", service,
		shopper(constant(0.9*fullRate)), creepPhases(l)...)
	s.judge = judgeCreep
	return s
}

// creepWorkers is scenario D with workers that go one by one.
func creepWorkers(short bool) scenario {
	l := creepLengths(short)
	service := usualService()
	service.workers = nil
	for gone := range 5 {
		at := l.before + l.during*time.Duration(gone)/4
		if gone > 0 {
			service.workers = append(service.workers, point{at, float64(workers - gone + 1)})
		}
		service.workers = append(service.workers, point{at, float64(workers - gone)})
	}
	s := single("D-workers", "capacity creeps to a half: workers go one by one", service,
		shopper(constant(0.9*fullRate)), creepPhases(l)...)
	s.judge = judgeCreep
	return s
}

// The services of scenario B.
const (
	stockRate, orderRate, payRate = 300.0, 300.0, 60.0
)

// steps3 is scenario B: two routes share two services, and one of them needs a third.
func steps3(l lengths) scenario {
	service := func(name string, rate float64) serviceSpec {
		return serviceSpec{name: name, workers: constant(workers), mean: time.Duration(workers / rate *
			float64(time.Second))}
	}
	draft, checkout := shopper(l.middle(0.25*stockRate, 10*stockRate)), shopper(l.middle(0.5*payRate, 10*stockRate))
	checkout.route = 1
	s := scenario{
		key: "B", title: "routes draft (stock, order) and checkout (stock, order, pay), each offered ten times",
		services: []serviceSpec{service("stock", stockRate), service("order", orderRate), service("pay", payRate)},
		routes:   []route{{"draft", []int{0, 1}}, {"checkout", []int{0, 1, 2}}},
		streams:  []stream{draft, checkout},
		phases:   l.phases("10 C", "after", time.Second), end: l.end() + l.after,
		possible: func(from, to time.Duration, came float64) float64 {
			return min(came, stockRate*(to-from).Seconds())
		},
		judge: judgeSteps,
	}
	return s
}

// replicas is scenario A with several gateways before the service.
func replicas(l lengths, n int) scenario {
	s := burst(l)
	s.key, s.title = "replicas-"+string(rune('0'+n)), string(rune('0'+n))+" gateways before one service, ten times "+
		"the capacity"
	s.gateways = n
	s.judge = judgeReplicas
	return s
}

// slowStart is a service that has just started.
func slowStart(l lengths) scenario {
	service := usualService()
	warm := l.during / 2
	service.speed = profile{{0, 0.2}, {warm, 1}}
	s := single("slow-start", "a service that starts at a fifth of its speed, at 0.5 C", service,
		shopper(steps(point{0, 0.5 * fullRate}, point{l.end(), 10 * fullRate})), phase{name: "cold", to: warm},
		phase{name: "warm", from: warm, to: l.end()}, phase{name: "10 C", from: l.end(), to: l.end() + l.after})
	s.judge = judgeSlowStart
	return s
}

// bimodal is a service with two kinds of calls: cached and not.
func bimodal(l lengths) scenario {
	service := usualService()
	service.work = func(random *rand.Rand) float64 {
		factor := 0.2 // 5 ms, for nine of ten
		if random.Float64() < 0.1 {
			factor = 8.2 // 205 ms
		}
		return factor * (0.8 + 0.4*random.Float64())
	}
	s := single("bimodal", "nine of ten calls take 5 ms, the tenth 205 ms; ten times the capacity", service,
		shopper(l.middle(0.5*fullRate, 10*fullRate)), l.phases("10 C", "after", 0)...)
	s.judge = judgeBimodal
	return s
}

// inversion has one principal flood with requests of low priority while everything else fits.
func inversion(l lengths) scenario {
	flood := stream{rate: l.middle(0, 10*fullRate), greedy: 1}
	flood.classes[limiter.Low] = 1
	others := shopper(constant(0.6 * fullRate))
	others.greedy = 0
	s := single("inversion",
		"greedy principals flood with ten times the capacity, of low priority; everybody else fits", usualService(),
		others, l.phases("flood", "after", 0)...)
	s.streams = append(s.streams, flood)
	s.judge = judgeInversion
	return s
}

// failingFast has most calls fail within a millisecond, which must not pass for speed; then comes the
// flood.
func failingFast(l lengths) scenario {
	const failing = 0.8
	service := usualService()
	service.failing = l.middle(0, failing)
	full := l.end() + l.after
	s := single("failing-fast", "four of five calls fail within a millisecond, at 0.5 C; later ten times the capacity",
		service, retrying(steps(point{0, 0.5 * fullRate}, point{full, 10 * fullRate}), 1),
		append(l.phases("failing", "after", 0), phase{name: "10 C", from: full, to: full + l.after})...)
	s.possible = func(from, to time.Duration, came float64) float64 {
		if from >= l.before && from < l.end() {
			return came * (1 - failing*failing) // with the second try
		}
		return min(came, fullRate*(to-from).Seconds())
	}
	s.judge = judgeFailing
	return s
}

// storm is a standstill of the service with clients that all try again at once.
func storm(l lengths) scenario {
	stall := 3 * time.Second
	service := usualService()
	service.speed = steps(point{0, 1}, point{l.before, 0}, point{l.before + stall, 1})
	all := retrying(constant(0.9*fullRate), 3)
	all.ignoring = 1
	s := single("storm", "the service stands still for 3 s; clients try again at once, three times", service, all,
		phase{name: "before", to: l.before}, phase{name: "standstill", from: l.before, to: l.before + stall},
		phase{name: "after", from: l.before + stall, to: l.before + l.during + l.after, settle: 2 * time.Second})
	s.judge = judgeStorm
	return s
}

// impatient is a lasting overload with clients of two kinds: who waits for Retry-After must not fare
// worse than who tries again at once.
func impatient(l lengths) scenario {
	const tries = 4
	s := single("impatient", "twice the capacity; half of the clients try again at once, four times", usualService(),
		retrying(l.middle(0.5*fullRate, 2*fullRate), tries), l.phases("2 C", "after", 0)...)
	s.judge = judgeImpatient
	return s
}

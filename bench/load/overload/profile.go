package overload

import (
	"slices"
	"time"
)

// profile is a value over time: linear between its points, constant before and after them. Two
// points at one time are a step.
type profile []point

type point struct {
	at    time.Duration
	value float64
}

// constant returns a profile that never changes.
func constant(value float64) profile { return profile{{0, value}} }

// steps returns a profile that has each value from its time on.
func steps(points ...point) profile {
	var p profile
	for i, s := range points {
		if i > 0 {
			p = append(p, point{s.at, points[i-1].value})
		}
		p = append(p, s)
	}
	return p
}

// value returns the value at that time; at a step, the later one.
func (p profile) value(at time.Duration) float64 {
	i, _ := slices.BinarySearchFunc(p, at, func(e point, at time.Duration) int {
		if e.at <= at {
			return -1
		}
		return 1
	})
	if i == 0 {
		return p[0].value
	}
	if i == len(p) {
		return p[i-1].value
	}
	from, to := p[i-1], p[i]
	return from.value + (to.value-from.value)*float64(at-from.at)/float64(to.at-from.at)
}

// most returns the greatest value.
func (p profile) most() float64 {
	return slices.MaxFunc(p, func(a, b point) int { return int(max(-1, min(1, (a.value-b.value)*1e9))) }).value
}

// mean returns the mean value of a stretch of time.
func (p profile) mean(from, to time.Duration) float64 {
	if to <= from {
		return p.value(from)
	}
	sum, at := 0.0, from
	for _, e := range p {
		if e.at > at && e.at < to {
			sum += p.between(at, e.at)
			at = e.at
		}
	}
	return (sum + p.between(at, to)) / float64(to-from)
}

// between is the area under a stretch without a point inside.
func (p profile) between(from, to time.Duration) float64 {
	return p.value((from+to)/2) * float64(to-from)
}

package overload

import (
	"context"
	"sync/atomic"
	"time"
)

// Guard sheds for the process itself when that is short of what every request takes: of processor
// time, which shows in goroutines that wake late, or of a resource that it counts (memory,
// descriptors, requests in flight), of which it is told the share in use. It sheds the low class
// first and never the critical one.
//
// It is slow to begin and to end, so that a machine which is merely busy sheds nothing: each of the
// samples of [guardLateWindows] windows in a row has to be late by [guardLateness], that is one of a
// process which was stopped once does not count. One step is undone when as many windows were calm.
// Its zero value is ready; Level is safe for concurrent use, the rest belongs to one goroutine.
type Guard struct {
	level    atomic.Int32
	lateness atomic.Int64 // of the last window

	samples  int
	least    time.Duration // lateness in the window so far
	pressure float64       // the least in the window so far
	late     int           // windows in a row that were late
	calm     int           // windows in a row that were not
	byDelay  Level
	byShare  Level
}

// Level says what the guard sheds: the classes from Low up to the one that it names.
type Level int32

// The levels. Scheduling delay leads to ShedNormal at most.
const (
	ShedNone Level = iota
	ShedLow
	ShedNormal
	ShedHigh
)

// String says which classes are shed, from the one that is named down.
func (l Level) String() string {
	return [...]string{"", "low", "normal", "high"}[min(max(l, ShedNone), ShedHigh)]
}

const (
	guardEvery       = 100 * time.Millisecond // a sample
	guardWindow      = 5                      // samples
	guardLateness    = 250 * time.Millisecond
	guardLateWindows = 3 // late ones in a row for each level
	guardCalmWindows = 4 // calm ones in a row until a level is left

	// How much less than what led to a level must be in use before it is left.
	guardRelief = .05
)

// guardShares are the shares in use that lead to each level.
var guardShares = [...]float64{ShedLow: .90, ShedNormal: .95, ShedHigh: .98}

// Level returns what is shed now.
func (g *Guard) Level() Level { return Level(g.level.Load()) }

// Lateness returns by how much goroutines woke late at least in the last window.
func (g *Guard) Lateness() time.Duration { return time.Duration(g.lateness.Load()) }

// refuses reports whether the guard sheds a class.
func (g *Guard) refuses(c Class) bool {
	level := g.level.Load()
	return level > 0 && int32(c)+level > int32(Low)
}

// Observe takes one sample: how late a goroutine woke, and the largest share in use of a counted
// resource.
func (g *Guard) Observe(lateness time.Duration, pressure float64) {
	if g.samples == 0 {
		g.least, g.pressure = lateness, pressure
	}
	g.samples++
	g.least, g.pressure = min(g.least, lateness), min(g.pressure, pressure)
	if g.samples < guardWindow {
		return
	}
	g.samples = 0
	g.lateness.Store(int64(max(g.least, 0)))
	g.judge()
}

// judge ends a window.
func (g *Guard) judge() {
	if g.least >= guardLateness {
		g.late, g.calm = g.late+1, 0
		if g.late%guardLateWindows == 0 {
			g.byDelay = min(g.byDelay+1, ShedNormal)
		}
	} else {
		g.late, g.calm = 0, g.calm+1
		if g.calm%guardCalmWindows == 0 {
			g.byDelay = max(g.byDelay-1, ShedNone)
		}
	}
	for g.byShare < ShedHigh && g.pressure >= guardShares[g.byShare+1] {
		g.byShare++
	}
	for g.byShare > ShedNone && g.pressure < guardShares[g.byShare]-guardRelief {
		g.byShare--
	}
	g.level.Store(int32(max(g.byDelay, g.byShare)))
}

// Run takes samples until ctx ends. pressure returns the largest share in use; nil: nothing is
// counted.
func (g *Guard) Run(ctx context.Context, pressure func() float64) {
	timer := time.NewTimer(guardEvery)
	defer timer.Stop()
	defer g.level.Store(int32(ShedNone))
	for {
		due := time.Now().Add(guardEvery)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		share := 0.
		if pressure != nil {
			share = pressure()
		}
		g.Observe(time.Since(due), share)
		timer.Reset(guardEvery)
	}
}

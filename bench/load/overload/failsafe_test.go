package overload

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/priority"

	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

// Failsafe is the name of failsafe-go's adaptive limiter.
const Failsafe = "failsafe-go"

// failsafe drives failsafe-go's adaptive limiter with priorities. It reads the wall clock and lets
// goroutines wait, so it runs in a bubble of testing/synctest, in which the clock of the world is
// the wall clock; and synctest is for tests only. Its levels are drawn from a source without a seed.
type failsafe struct {
	limiter     adaptivelimiter.PriorityLimiter[any]
	prioritizer priority.Prioritizer
	decide      decide
	calls       map[*call]*failsafeCall
	verdicts    chan *failsafeCall // of goroutines that are done
	calibrate   time.Time
}

type failsafeCall struct {
	call   *call
	cancel context.CancelFunc
	permit adaptivelimiter.Permit
}

// calibrateEvery is how often the threshold of priorities is found anew; failsafe-go leaves it to its
// user.
const calibrateEvery = 100 * time.Millisecond

func newFailsafe(now time.Time, _ uint64, _ told, d decide) controller {
	p := adaptivelimiter.NewPrioritizer()
	return &failsafe{
		prioritizer: p, decide: d, calls: map[*call]*failsafeCall{}, verdicts: make(chan *failsafeCall, 1<<16),
		limiter: adaptivelimiter.NewBuilder[any]().BuildPrioritized(p), calibrate: now.Add(calibrateEvery),
	}
}

var failsafePriority = map[limiter.Class]priority.Priority{
	limiter.Critical: priority.VeryHigh, limiter.High: priority.High, limiter.Normal: priority.Medium,
	limiter.Low: priority.Low,
}

func (f *failsafe) acquire(_ time.Time, c *call) verdict {
	level := failsafePriority[c.class].RandomLevel()
	if c.undo {
		level = priority.VeryHigh.MaxLevel()
	}
	if !f.limiter.CanAcquirePermitWithLevel(level) && !c.undo {
		return shed
	}
	ctx, cancel := context.WithCancel(context.Background())
	waits := &failsafeCall{call: c, cancel: cancel}
	f.calls[c] = waits
	go func() {
		permit, err := f.limiter.AcquirePermitWithLevel(ctx, level)
		if err == nil {
			waits.permit = permit
		}
		f.verdicts <- waits
	}()
	if v, ok := f.settle(c); ok {
		return v
	}
	return queued
}

// settle lets the goroutines come to rest and passes their verdicts on. That on the call itself is
// returned.
func (f *failsafe) settle(own *call) (verdict, bool) {
	synctest.Wait()
	v, decided := queued, false
	for len(f.verdicts) > 0 {
		done := <-f.verdicts
		how := admitted
		if done.permit == nil {
			how = shed
			delete(f.calls, done.call)
			done.cancel()
		}
		switch {
		case done.call == own:
			v, decided = how, true
		case done.call.stage == ended: // it left, and got a permit all the same
			f.drop(done.call)
		default:
			f.decide(done.call, how)
		}
	}
	return v, decided
}

func (f *failsafe) drop(c *call) {
	if waits := f.calls[c]; waits != nil {
		waits.permit.Drop()
		waits.cancel()
		delete(f.calls, c)
	}
}

func (f *failsafe) leave(_ time.Time, c *call) {
	waits := f.calls[c]
	waits.cancel()
	synctest.Wait()
	f.settle(c)
	f.drop(c)
}

func (f *failsafe) release(_ time.Time, c *call, o outcome, _ time.Duration) {
	if waits := f.calls[c]; waits != nil {
		if o == abandoned {
			waits.permit.Drop()
		} else {
			waits.permit.Record()
		}
		waits.cancel()
		delete(f.calls, c)
	}
	f.settle(nil)
}

func (f *failsafe) tick(now time.Time) time.Time {
	if !now.Before(f.calibrate) {
		f.prioritizer.Calibrate()
		f.calibrate = now.Add(calibrateEvery)
	}
	return f.calibrate
}

// close ends the goroutines that still wait.
func (f *failsafe) close() {
	for _, waits := range f.calls {
		waits.cancel()
	}
	synctest.Wait()
}

func (f *failsafe) state() state {
	return state{limit: float64(f.limiter.Limit()), inFlight: float64(f.limiter.Inflight()),
		queued: float64(f.limiter.Queued())}
}

// bubbled runs the simulation in a bubble, in which time passes with the world's.
func bubbled(t *testing.T) simulator {
	return func(ctx context.Context, s *scenario, c contender, seed uint64) (r *record, err error) {
		synctest.Test(t, func(*testing.T) {
			r, err = run(ctx, s, c, seed, time.Sleep)
		})
		return r, err
	}
}

// withFailsafe are all contenders and failsafe-go's limiter.
func withFailsafe(t *testing.T) []contender {
	return append(contenders(), contender{name: Failsafe, new: newFailsafe, simulate: bubbled(t)})
}

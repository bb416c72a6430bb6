package overload_test

import (
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/filters/overload"
)

// A request acquires a permit, waits where it must, and releases the permit when its call has ended.
func ExampleLimiter() {
	settings := overload.Settings{
		Adaptive: true, Min: 4, Max: 1000, QueueSize: 200, QueueWait: 100 * time.Millisecond,
	}
	if err := settings.Check(); err != nil {
		fmt.Println(err)
		return
	}
	limiter := overload.New(settings, time.Now(), 42)

	var waiter overload.Waiter // pooled, with the request
	decision, cause := limiter.Acquire(time.Now(), overload.Request{Class: overload.Normal}, &waiter)
	if decision == overload.Queued {
		timer := time.NewTimer(time.Until(waiter.Deadline()))
		defer timer.Stop()
		select {
		case v := <-waiter.Verdict():
			decision, cause = v.Decision, v.Cause
		case <-timer.C:
			limiter.Tick(time.Now()) // ends the wait
			v := <-waiter.Verdict()
			decision, cause = v.Decision, v.Cause
		}
	}
	if decision == overload.Shed {
		fmt.Println("shed:", cause, limiter.RetryAfter(time.Now(), overload.Normal))
		return
	}
	// The call.
	limiter.Release(time.Now(), waiter.Permit(), overload.Sample{Outcome: overload.Success})
	fmt.Println("served, in flight:", limiter.Snapshot().InFlight)
	// Output: served, in flight: 0
}

package gateway

import "time"

// steadyClock is the clock of the stores in this process: the time of day at the start, and from
// then on elapsed time. An administrator or NTP that steps the machine's clock then neither ends
// leases nor lets recorded responses expire before their time, which would have requests executed
// again.
func steadyClock(now func() time.Time) func() time.Time {
	start := now()
	return func() time.Time { return start.Add(now().Sub(start)) } // by the monotonic readings of both
}

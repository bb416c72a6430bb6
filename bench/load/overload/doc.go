// Package overload simulates controllers of overload in virtual time: the limiter of the gateway
// beside others, before services whose capacity is known.
//
// A run is one goroutine and a heap of events. What comes, and the work that it makes, depend on the
// seed only, so every contender meets the same requests. Nothing is measured on this machine; what
// the figures rest on is the model:
//
//   - A service is some workers behind an unbounded queue, first in, first out. It finishes what it
//     has begun and what it has queued, whether or not somebody still waits. Unless a scenario says
//     otherwise it has 8 workers and a call takes 25 ms ± 50 %: it can do C = 320 calls a second.
//   - Clients are many and independent (an open loop, Poisson arrivals), and wait for 1 s. 5 % of the
//     requests are critical, the rest normal and low. Where a scenario says so they try again: half of
//     them when Retry-After says, the others at once.
//   - A gateway asks the contender before each call, and tells it how the call ended. The network
//     takes no time.
//
// Terms: goodput is how many responses a second come in time. What is possible is the smaller of
// what came and what the service could do, second by second; it is a mean, so a good contender has
// up to some per cent more or less in a single second. A phase is a stretch of a scenario; a mark a
// bound that the gateway promises to keep. Each control must miss some, or the test is too weak.
package overload

// Package growth measures how the gateway's costs grow with what it holds: `sluice bench growth`.
//
// An axis is one thing that there can be many of: routes, endpoints of a service, records of keys, keys of a limit,
// connections that are idle or busy. Each of its steps is a gateway of its own with so many of them; those of one axis
// run side by side and are driven in turn, round after round, so that a disturbance of the machine meets all of them.
// How CPU time and memory are read stands in package measure.
//
//   - CPU a request: of every step, by the loads of the axis, whose requests go around all that there are, in an order
//     in which neighbours do not follow upon each other. The mark allows a tenth more for each factor of ten: more
//     would be worse than logarithmic.
//   - memory: what a process has more when so many are there, pages of files aside. The mark is linear growth: one
//     costs at most half as much again as in the step before.
//   - start: the CPU time until connections are accepted. The mark is linear growth as for memory.
//   - reload: the file gets one more route, and the time counts from then until that route answers, while requests come
//     at a fixed rate. The slowest of these is compared with the slowest of as many without a reload.
//
// The gateway has one worker (GOMAXPROCS=1), so that a reload and requests share one processor.
package growth

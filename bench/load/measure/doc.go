// Package measure is what the load tools share: it starts what is measured, drives it with one load
// after the other, and reads its clocks.
//
// Every contender is a process of its own on one worker, in front of the same upstream. One load
// drives them in turn, in short slices, round after round, so that a disturbance of the machine
// meets all of them. A figure is the median over the rounds, a ratio the median of the rounds'
// ratios; the ratios are what counts, not the microseconds, and only those within one run.
//
// Terms: a load is a kind of request; a slice is one load on one contender for the set duration; a
// mark is a bound that the gateway promises to keep.
//
// What is measured, and how:
//
//   - CPU a request: the CPU clocks (clock_getcpuclockid(3)) of the contender's process and its
//     descendants, user and system, over a closed-loop slice, by the responses counted in it. The
//     load's connections are open and warm before the clock is read.
//   - memory an idle connection: the proportional set size (proc(5), smaps_rollup) of a fresh
//     process before and after that many connections were opened and had one request each. The
//     kernel's own buffers are not in it.
//   - allocations a request: go_memstats_mallocs_total of the contender's metrics, where it has
//     them, so garbage of the whole process counts.
//   - latency: an open loop at a fixed rate. A request's time runs from when it was due, not from
//     when a connection was free for it, so that a stall is counted for all that were due in it
//     (coordinated omission). Percentiles are medians over the rounds too: on a shared machine the
//     worst request of a run is the machine's.
//
// # On a busy machine
//
// While a plan is carried out, what other programs take of the processors is measured too. Above a
// twentieth no mark is judged that rests on CPU time or speed, and the report says so:
// [Setting.Withhold]. Interleaving and medians help against a disturbance of some rounds; against one
// that lasts, which empties the caches of all contenders and not in equal parts, they do not.
//
// # Two builds
//
// [Builds] compares two builds of the gateway: in every round both are started afresh with the same
// configuration, and driven one after the other, in an order that alternates. A figure is the ratio
// of the two, pair by pair; its interval is that of the sign test, which needs no assumption on how
// the ratios are distributed.
//
// # Where it runs
//
// On Linux with two processors or more the contenders run on the first, and load and upstream on
// the last. The load is one epoll loop with prebuilt requests and a parser that looks at status and
// length only: it has to be cheaper than what it measures. Anything but a whole 2xx response is an
// error, and a figure with errors meets no mark.
//
// The package needs Linux to measure; elsewhere it builds, and the load tools say so.
package measure

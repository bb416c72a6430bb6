// Package proxy measures what the gateway costs beside other proxies, `sluice bench proxy`, and what idempotency keys cost on each store,
// `sluice bench idempotency`.
//
// Every contender (nginx, HAProxy, Envoy, a raw TCP relay, net/http's ReverseProxy, the gateway plain and with its filters on) is a process
// of its own on one worker, in front of the same upstream. One load drives them in turn, in short slices, round after round, so that a disturbance
// of the machine meets all of them. A figure is the median over the rounds, a ratio the median of the rounds' ratios; the ratios are what counts, not
// the microseconds, and only those within one run.
//
// Terms: a load is a kind of request (GET, POST, 64 KiB answers, HTTP/2, gRPC); a slice is one load on one contender for the set duration;
// a mark is a bound that the gateway promises to keep.
//
// What is measured, and how:
//
//   - CPU a request: the CPU clocks (clock_getcpuclockid(3)) of the contender's process and its descendants, user and system, over a closed-loop
//     slice, by the answers counted in it. The load's connections are open and warm before the clock is read.
//   - memory an idle connection: the proportional set size (proc(5), smaps_rollup) of a fresh process before and after that many
//     connections were opened and had one request each. The kernel's own buffers are not in it.
//   - allocations a request: go_memstats_mallocs_total of the contender's metrics, where it has them, so garbage of the whole process counts.
//   - latency: an open loop at a fixed rate. A request's time runs from when it was due, not from when a connection was free for it,
//     so that a stall is paid for by all that were due in it (coordinated omission). Percentiles are medians over the rounds too: on a shared
//     machine the worst request of a run is the machine's.
//
// # Keys
//
// The contenders of `sluice bench idempotency` are gateways with one store each, and each load is a POST of 512 bytes: without a key, with a
// fresh key, and with keys that are answered already (a replay; a thousand of them in turn, so that no two are under way at once and joined).
// The gateway's own count of claims and replays has to agree, else the figure does not count. What a key costs is the ratio, or the
// difference, to the POST without one through the same gateway in the same round.
//
//   - The disk: before each round one writer appends 4 KiB to a file beside the records and waits for fdatasync(2), over and over. A keyed request
//     waits for two steps on disk, so that c clients get no more than c × fsyncs/s ÷ 2 through, whatever the gateway does; the mark of the rate that
//     is achieved asks for no more.
//   - Live records: a fresh gateway is filled with records that do not expire, and its memory is read when it does not change any more. The mark
//     holds for Pss of the whole process, garbage and all.
//
// On Linux with two processors or more the contenders run on the first, and load and upstream on the last. The load is one epoll loop with
// prebuilt requests and a parser that looks at status and length only: it has to be cheaper than what it measures. Anything but a whole 2xx answer
// is an error, and a figure with errors meets no mark.
//
// The package needs Linux to measure; elsewhere it builds, and Run says so.
package proxy

// Package cores measures what goroutines on several processors pay for a table that they share.
//
// A benchmark runs its step by [Run] and is named BenchmarkCores; `make cores` runs all of them with one processor and
// with two, and prints how much more two do:
//
//	2 × (processor time + waiting of a step on one) / (the same on two)
//
// 2.0 is a table that nobody waits for. Time by the clock would say the same on an idle machine and nothing on one that
// others use. Processor time has in it that a line of the caches has to come from the other processor; it has not that
// a goroutine sleeps until a mutex is free, so the runtime's count of that is added. The mark is 1.7.
package cores

// Package processor divides what many goroutines write into parts by processor, so that they do not take each other's
// lines of the caches: a line that another processor wrote last costs 50 to 100 ns, and a part of one's own a few.
//
// [Number] is the processor of the scheduler (its P) on which the goroutine runs at that moment. The next moment it
// may be on another one, so the number chooses which part is likely to be in this processor's caches and nothing
// more: parts are written as anything else that several goroutines share, by atomic additions or under a lock of their
// own. Whoever reads sums the parts.
//
// The number is the runtime's own (runtime.procPin, which the runtime keeps for the packages that use it: see
// go.dev/issue/67401). A runtime without it fails to link. Where it means something else one day, parts are shared or
// left idle, and what they count stays right.
//
// Memory: a [Parts] is [PartsMax] pointers, and a part for each processor that has used it. Further processors share
// those. The package does not fail.
package processor

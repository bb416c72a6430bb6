// Package faults makes the faults that an operator meets, in front of a real gateway, and asks of each whether the
// gateway tells its cause: one line of the log, the status or the metrics, with the names of what to look at. What is
// asserted here is what docs/operating.md tells operators to look for.
//
// Most faults need no gateway of their own, so that all of them together take a few seconds of processor time.
package faults

// Package filtertest is the conformance suite that every filter passes.
//
// It looks at a filter from outside, through the three phases, as an engine or Envoy's adapter
// would call it, also where they call it badly: phases that do not come, neighbours that panic,
// clients that leave. What it asks for is written at [Conform].
package filtertest

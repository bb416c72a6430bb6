// Package metric registers what a process counts and knows each metric by name, type, labels and meaning.
//
// Everything that is published under sluice_ is registered through a [Registry], so its list ([Registry.List]) is the
// one that documentation, alert rules and dashboards are held against. Metrics are of three ways of being: vectors that
// are counted as things happen ([Registry.Counter], [Registry.Gauge], [Registry.Histogram], [Registry.Events]), values
// that are read when somebody scrapes ([Collector]), and single ones of those ([Registry.Func]).
//
// What a reload has removed is published no more: [Registry.Keep] says which routes, services, limits and sales there
// are. It removes the other series, and a request of the configuration before that counts something new afterwards
// does not bring one back to a scrape.
//
// Invariants: two metrics of a registry never have one name; a label that [Registry.Keep] was told of has no value in a
// scrape but those and the empty one; what was counted before a scrape began is in it, on whichever processor.
//
// All requests of a route, on all processors, count in the same series. So a counter, a histogram and a row of events
// are in parts by processor (package processor), and a scrape sums them.
//
// Memory: a series costs some hundred bytes, an event of [Events] 16, and beyond that a line of 64 bytes for a
// counter, 192 bytes for a histogram and 128 for a row for each processor that has counted in it, of which there are
// at most eight. Nothing here makes a label out of what a client sends, so the number of series is bounded by the
// configuration, the statuses (at most 900) and the reasons. The package does not fail: a name that is registered
// twice is a bug and panics.
package metric

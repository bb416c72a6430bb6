// Package tracing makes spans of requests, of their attempts at services and of the branches of transactions, and sends
// them to a collector by OTLP. Spans, batches and the protocol are those of the OpenTelemetry SDK.
//
//	tracing.go     what is in force, and how it changes
//	sampling.go    which requests are traced, and the traceparent that their services get
//	span.go        the spans: of a request, an attempt, a branch
//	attributes.go  what they say
//	queue.go       what waits for the collector, and what is lost
//	collector.go   the connection to a collector
//
// # Which requests
//
// The sampling is at the head and by chance: a share of the requests. One that is not chosen makes no span and costs a
// random number and, where its client brought none, a traceparent. The flag of a client's traceparent (W3C Trace
// Context, https://www.w3.org/TR/trace-context/) is taken as it is from peers that are trusted as proxies, and from
// nobody else: else whoever sets it has all of a fleet trace all that it sends. The trace is the client's all the same:
// spans of an untrusted client's request are in the trace that it named, below the span that it named.
//
// A service sees the span of the attempt in traceparent. It sees a flag that says "not sampled" where the operator's
// share decided so, which keeps the services behind from tracing requests of which nobody has the first half.
//
// # Branches
//
// The traceparent of the request that begins a transaction is in the payloads that the coordinator keeps, which are
// signed. So the call of a branch is under that request whenever the coordinator makes it and whichever gateway it
// calls, and it is traced if and only if that request was.
//
// # Invariants
//
// No request waits for a collector. What a client sent is cut, and what is not UTF-8 in it replaced, since one such
// byte would have a whole batch refused. Queries, bodies and fields are in no span; principals are hashed.
//
// # Bounds
//
// 2,048 spans wait or are being sent. A span has at most 32 attributes of 256 bytes, 32 events with one text of that
// length, and a tracestate of 512 bytes: 27 KiB at the very most, with what the SDK keeps, and 3 KiB as a rule; all of
// them 54 MiB, and 6 MiB as a rule. A further event puts the first one out.
//
// # Failure policy
//
// A span for which there is no room is dropped and counted. A collector that is gone, slow, silent or that refuses
// costs spans, never a request: a batch is tried for ten seconds and then dropped and counted. The log says so once a
// minute while it lasts, and when it is over. A reload that changes the collector has what waits sent to the new one;
// one that switches tracing off has it sent to the old one. At the end of the process what waits is sent for three
// seconds at most.
package tracing

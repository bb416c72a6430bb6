// Package otlptest is a collector of traces for tests: it takes OTLP over gRPC and over HTTP with protobuf, keeps the
// spans, and refuses or never answers when it is told to. It knows the protocol from its definition
// (go.opentelemetry.io/proto/otlp) and not from the SDK that exports.
//
// Bound: it keeps what it is sent for as long as the test runs.
package otlptest

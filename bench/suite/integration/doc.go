// Package integration shows the product's promises on real processes: gateways that are
// killed, a real Redis, a real coordinator, the demo as its user runs it. It has tests only.
package integration

// Package harness starts the real programs for integration tests: gateways and the demo, built from
// this checkout, as processes of their own that can be killed with SIGKILL and started again on the
// same ports and data.
//
// A test binary that uses it has
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// Package build says how the programs are made. Every process is stopped by the cleanup of its
// test, by its own id, and dies with the test binary in any case; its output is shown when the test
// failed.
package harness

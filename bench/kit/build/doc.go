// Package build builds this checkout's programs for tests, each once in a test binary.
//
// SLUICE_BIN and SLUICE_DTM in the environment name programs that are there already. When the tests
// run with the race detector, so does the gateway that is built for them. What is built lies in a
// temporary folder, which [Main] removes: a test binary whose tests use this package has
//
//	func TestMain(m *testing.M) { build.Main(m) }
//
// A program that cannot be built fails the test.
package build

// Package envoytest runs the real Envoy for tests: on free loopback ports, with the bootstrap that the
// users' guide has (deploy/envoy/bootstrap.yaml), configured by a control plane that the test names.
//
// The version is pinned, and deploy/testdeps.sh installs it. Where it is missing a test fails; nothing
// is ever skipped.
package envoytest

// Package envoy is a suite: the real Envoy, configured by our control plane over ADS, calls our ext_proc
// and our rate-limit service. What it shows is what package envoydialect promises of the resources and
// docs/envoy.md tells the users, down to the answers of Envoy where its documentation leaves a question.
// gRPC's own client of xDS is a second one that was not written with Envoy in mind.
//
// The control plane and the services run in the test's process, Envoy in one of its own. Envoy is
// pinned, and a test fails where it is missing: see package envoytest.
package envoy

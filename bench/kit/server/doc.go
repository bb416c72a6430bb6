// Package server runs the servers of others for tests, each on a free loopback port: a database, a
// coordinator. It knows none of them; sqltest and dtmtest say how theirs is started and when it is
// ready.
//
// A server is killed when its test ends, and dies with the test binary in any case. It can be
// killed, paused and started again on the same port before that. What cannot be started fails the
// test, with deploy/testdeps.sh as the place that installs what is missing: nothing is ever
// skipped.
package server

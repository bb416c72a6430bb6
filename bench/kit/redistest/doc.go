// Package redistest starts real Redis servers for tests: on a free loopback port, in a temporary
// folder, stopped when the test ends. A missing redis-server fails the test; it is never skipped.
//
// A server on its own comes from [Run] or [Start], a cluster from [RunCluster], a master that
// sentinels watch from [RunReplicated]. Servers can be killed and restarted, and paused so that they
// keep their connections and do not reply.
package redistest

// Command sluice-dtm is a DTM coordinator: DTM 1.19 with a main of ours.
//
// It serves the HTTP interface of DTM (/api/dtmsvr/…, /api/metrics) on one address and nothing else, a
// loopback one unless --hosts says who else may call it. DTM's own main opens its HTTP and its gRPC port on
// all interfaces, without authentication, and calls any URL that it is given; so neither is opened here.
// DTM's StartSvr offers no way around its listeners: the routes are taken from the package directly
// (routes.go). docs/coordinator.md is the guide.
//
// # State
//
// --store embedded, the default, keeps the transactions in a log in the folder --data, with group commit
// (package dtmembedded). What an earlier version has left in dtm.bolt is taken over. The other stores are
// DTM's own: boltdb, redis, mysql, postgres, with DTM's environment names (STORE_HOST, STORE_PASSWORD, …)
// or the flags.
//
// DTM finds its store by name in a map that its package does not export. This program refers to the map
// by go:linkname, as it refers to the routes (store.go). A fork would have to be kept up with DTM; to speak
// the protocol of one of DTM's databases costs a process and a round trip for each step.
//
// Every store is watched (watched.go): a write that fails refuses the request, which DTM does not see to by itself, and
// a roll-back is one line in the log. DTM's own lines are reduced to what somebody can act on (quietlog.go).
//
// What has ended is forgotten after --keep-for, in an SQL store too (sqlretention.go).
//
// # Stopping
//
// SIGTERM or SIGINT: no new connection and no new pass; requests, passes and branch calls in flight
// get a few seconds; what is not done by then is resumed after the next start, as after a crash. A
// second signal ends the process at once.
//
// Exit codes: 0 stopped, 1 failed (port busy, folder locked by another process), 2 wrong usage.
package main

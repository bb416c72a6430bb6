// Command sluice-dtm is a DTM coordinator for one machine: DTM 1.19 with a main of ours.
//
// It serves the HTTP interface of DTM (/api/dtmsvr/…, /api/metrics) on one loopback address and
// nothing else. DTM's own main opens its HTTP and its gRPC port on all interfaces, without
// authentication, and calls any URL that it is given; so neither is opened here. DTM's StartSvr
// offers no way around its listeners: the routes are taken from the package directly (routes.go).
//
// For more than one machine, or a store of its own, run a DTM cluster of your choice: the gateway
// only needs its address.
//
// # State
//
// --store boltdb keeps the transactions in dtm.bolt in the folder --data; each step is on disk
// (fsync) before the next one begins. One process at a time locks the folder. Finished transactions
// of more than seven days are removed at start. The other stores are DTM's own: redis, mysql,
// postgres, with DTM's environment names (STORE_HOST, STORE_PASSWORD, …) or the flags.
//
// # Stopping
//
// SIGTERM or SIGINT: no new connection and no new pass; requests, passes and branch calls in flight
// get a few seconds; what is not done by then is resumed after the next start, as after a crash. A
// second signal ends the process at once.
//
// Exit codes: 0 stopped, 1 failed (port busy, folder locked by another process), 2 wrong usage.
package main

// Package participant is what a service behind the gateway imports so that no request takes effect twice. It needs database/sql and the
// standard library. PROTOCOL.md beside it has the rules whole, with the SQL, so that they can be written again in another language.
//
// # In use
//
// The effect and the record of its request are written in one transaction of the service's own database: PostgreSQL, MySQL or MariaDB, SQLite.
//
//	guard := &participant.Guard{DB: db, Dialect: participant.Postgres}
//	mux.Handle("POST /v1/orders", guard.Middleware(orders))                     // orders works in participant.Tx(r.Context())
//	mux.Handle("GET /v1/orders/by-key/{key}", guard.ProbeHandler())             // for onUnknown: probe
//
// [Guard.Handler] and [Guard.Do] are the same for effects that take their transaction as an argument. Branch calls of a global transaction go
// through DTM's barrier ([Barrier]), on DTM's table, in all three.
//
// # Invariants
//
//   - A key takes effect once at most while its row lives, and everybody who is told that it was done is told the same answer.
//   - The effect and its record are committed together or not at all, and answered after the commit.
//   - A refusal has no effect, and an attempt that comes late does not do what a later one was refused.
//   - Once a lookup has said "not done", the attempts that it was asked about will not be done ([ErrAbandoned]).
//
// # Failure policy
//
// Conflicts between transactions, and commits that were not acknowledged, are tried again a few times, for the record tells what became of them. Then
// 503 says that nothing was done for sure, and 500 that it is not known: the gateway takes that for an unknown outcome and asks again. One row a request; nothing
// is kept in memory. Rows may go when the route's ttl (of a branch: the transaction) is long over; [Guard.Forget] removes those of keys, in batches.
package participant

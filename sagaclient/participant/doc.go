// Package participant is what a service behind the gateway imports so that no request takes effect
// twice. It is a module of its own that requires nothing but the standard library; the service
// brings the driver of its database. PROTOCOL.md specifies the rules with their SQL, for
// implementations in other languages.
//
// # In use
//
// The effect and the record of its request are written in one transaction of the service's own
// database: PostgreSQL, MySQL or MariaDB, SQLite.
//
//	guard := &participant.Guard{DB: db, Dialect: participant.Postgres}
//	mux.Handle("POST /v1/orders", guard.Middleware(orders)) // orders uses participant.Tx(r.Context())
//	mux.Handle("GET /v1/orders/by-key/{key}", guard.ProbeHandler()) // for onUnknown: probe
//
// [Guard.Handler] and [Guard.Do] are the same for effects that take their transaction as an
// argument. Branch calls of a global transaction go through DTM's barrier ([Barrier]), on DTM's
// table, in all three. [XA] makes a database a resource of DTM's XA transactions. Package
// redisbarrier below this one is the barrier for effects that are in Redis.
//
// # Invariants
//
//   - A key takes effect at most once while its row exists, and all attempts of it that succeed get
//     the same response.
//   - The effect and its record are committed together or not at all, and the response is sent
//     after the commit.
//   - A refusal has no effect, and an attempt that arrives late does not do what a later one was
//     refused.
//   - Once a lookup has returned "not done", the attempts that it was about will not be done
//     ([ErrAbandoned]).
//
// # Failure policy
//
// Conflicts between transactions, and commits that were not acknowledged, are tried again a few
// times: the record tells their outcome. After that, 503 means that certainly nothing was done, and
// 500 that it is not known; to the gateway that is an unknown outcome.
//
// # Memory
//
// One row a request; nothing is kept in memory. Rows may be deleted when the route's ttl (of a
// branch: the transaction) is long over; [Guard.Forget] deletes those of keys, in batches.
package participant

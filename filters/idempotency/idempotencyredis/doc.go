// Package idempotencyredis keeps idempotency records in Redis (6.0 or later), shared by a fleet of gateways: one Redis, a master that sentinels name, or a Redis Cluster.
//
// # What it promises
//
//	                        gateway killed   Redis killed   Redis machine lost
//	appendfsync always      nothing          nothing        what the replicas had not got yet
//	appendfsync everysec    nothing          up to 2 s      the same
//	no append-only file     nothing          everything     everything, or what the replicas had not got yet
//
// It says what of the acknowledged steps may be lost. (With everysec it is one second as a rule; where an fsync takes long Redis puts its writes off for up to two, and
// answers meanwhile.) A lost answer means that the key may be executed once more. A claim that a failover loses can be
// taken a second time while its first holder still runs; the fence then refuses the first one's end. Each Ping looks whether a master is another one than it was, or was
// started anew; that is counted and logged. (So is a master that has left a cluster with no slots, which loses nothing.) maxmemory-policy must be noeviction, since an
// evicted record is a lost one: another policy is warned of once.
//
// # Keys
//
// OWNER is [idempotency.Owner] of the ID, REST is the rest of it. As its hash tag the owner keeps all of a step in one slot; where nothing is counted it is
// random, so that the slots are even. The prefix has no braces.
//
//	PREFIX idem:{OWNER}REST   the record, one string: see record.go
//	PREFIX open:{OWNER}       the open keys of that owner, where they are counted: a sorted set of REST by expiry (µs). It expires with its last one.
//	PREFIX secret:NAME        what is drawn once for all gateways
//	PREFIX idem:ended         the channel of the keys of records whose claim has ended
//
// Redis removes a record at its expiry.
//
// # Steps
//
// Each step is one Lua script and one round trip: a keyed request costs two, a claim and its end. A script makes the decision of the pure core ([idempotency.Claim] and its
// siblings) on Redis's own clock (TIME), so the clocks of the gateways do not matter. Its arguments are one string, its reply is one, and so is the record:
// parts cost more than bytes do, on both sides. Tokens are 64 bits wide and Lua's numbers are doubles: tokens are strings and only compared. Times are whole
// microseconds since 1970, exact in a double until the year 2255.
//
// The record is written by the first command of a script that writes at all; so Redis refuses a step as a whole when its memory is full.
//
// A claim that is repeated with its own token, because the first acknowledgement was lost, is told that it holds the claim. A quota is exact: it is counted in
// the claim's script.
//
// # Pipelining
//
// Callers at the same moment share a write: two writes are on their way to a node at most, and who comes meanwhile goes with the next one (see lane). At 64 callers this takes a
// quarter of the gateway's CPU time; a single caller pays nothing for it. Each master of a cluster has a lane of its own, so one that hangs delays only its own keys.
//
// This is not go-redis's AutoPipeline, which (in 9.23) drops the deadline of the single command once it is queued, and whose API is marked as experimental.
//
// # Waiting
//
// A waiter marks the record in the script by which he looks at it, and the script that ends the claim publishes the record's key if the mark is there; else nothing is
// published. Each gateway has one subscription, begun by its first waiter. A message that comes while it is broken is lost: when it stands again all
// waiters look again. They also do at the end of the lease, and every two to three seconds, whatever happens. (With ACLs the user needs the channel; without it they wait by these looks.)
//
// # Memory
//
// In the gateway nothing beyond the client's connections and what is on its way. In Redis less than 300 bytes a record beside its texts and answer, until its expiry.
//
// # Failure policy
//
// Every step is bounded by the timeout, whatever the caller's context says; then it is an error, and the step may or may not have been taken. That is so for all who share
// a write whose connection breaks. The client must be made with [Tune]d options, else go-redis waits for its own timeouts and repeats commands by itself. The
// routes' onStoreFailure decides what follows.
//
// A script is sent again only where Redis says that it has not run it: NOSCRIPT (Redis forgets scripts; they are sent on demand), MOVED, ASK, TRYAGAIN, CLUSTERDOWN, READONLY. While a
// slot moves, a step on two keys is taken by neither node until both keys are there: steps of records that are not counted do with one key, the others wait for it within
// the timeout.
//
// In a cluster the store answers as long as one master does, since the others' keys are no worse off for it.
package idempotencyredis

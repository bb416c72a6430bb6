// Package idempotencymemory keeps idempotency records in the memory of one process.
//
// # What it promises
//
// Everything is lost when the process ends, however it ends; a key that was answered before then is free
// again. So it serves tests, and routes whose services are themselves safe to repeat. It is for one gateway:
// two of them would not see each other's claims.
//
// # How it works
//
// Each processor has an arena: the records that it has claimed, with their texts and responses. So what a claim writes
// next is in the caches of the processor that makes it; memory that two processors write by turns costs 90 ns a line. A
// table in 64 shards, by a hash of the ID, tells in which arena a record lies, and where. Each arena has a lock, under
// which its records are read and changed, and each shard one, taken under that of an arena for a look at the table.
// Records of which the hashes look the same to the table lie in one arena, so that whoever holds its lock can tell them
// apart: a call that meets such a one goes there, also to claim. A claim returns the place of its record, and the step
// that ends it looks there first, without the table: the token tells whether the record is still there. Each decision
// is the pure core's, on a record without its texts and its response, which are copied out only for who gets them.
//
// A record is an entry without pointers, in chunks; its texts and its response are runs of bytes in slots of fourteen
// sizes, in chunks too (Bonwick, "The Slab Allocator", 1994); the table from hashes to places, open addressing in one
// array a shard, has no pointers either. So the collector, which walked every record in each of its rounds, has nothing
// to look at, and a claim allocates nothing. Chunks that have become empty are given back.
//
// An arena knows the records that may expire in each second (a calendar queue: Brown, "Calendar Queues: A Fast O(1)
// Priority Queue Implementation for the Simulation Event Set Problem", 1988). A claim is put under the second in which
// its record would expire if the request ended at once; the end moves nothing, and a record that lives longer is put
// where it belongs when that second has passed. Each call on an arena removes or moves a few, so there is no goroutine,
// and the cost of a burst is spread over the calls that follow it. One call in 32 does so in another arena, whose
// processor may have nothing to do any more. A store that gets no call keeps what it has.
//
// Times are counted from the store's beginning, by the monotonic clock: a step of the wall clock ends no lease.
//
// # Invariants
//
// Every record is in its shard's table and in its arena's calendar, under its expiry or an earlier second. No two
// arenas have entries of one tag in one shard. A counted record is counted once. A slot belongs to one record at a
// time; what is returned is a copy, made under the arena's lock, but for responses of more than 4 KiB, which are never
// written to again.
//
// # Memory
//
// A record costs about 230 bytes beside its strings and its recorded response, each of which takes up to a half
// more than its length, from its claim to its expiry: open keys × (240 B + 1.5 × (strings + response)). An empty
// store has some 8 KiB and 2 KiB a processor (64 at most; further ones share), and an arena keeps one empty chunk of
// each size that it has used, 12 to 16 KiB. There is no cap here; it is the route's: maxOpenKeys a principal, maxBody a
// response, ttl.
//
// # Failure policy
//
// It does not fail.
package idempotencymemory

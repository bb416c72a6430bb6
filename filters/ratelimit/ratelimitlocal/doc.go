// Package ratelimitlocal keeps the buckets of a rate limit in the memory of one gateway.
//
// The bucket is golang.org/x/time/rate's: tokens are counted as fractions and refilled when they
// are asked for. Around it stands what that package leaves to its users: many keys, a bound on
// them, and a clock that never goes back.
//
// A limit with fixed windows has, in place of a bucket, the hits of the present window and its end.
// A charge with a rate of its own has a bucket (or, with another period, a window) beside that of
// its key.
//
// # Invariants
//
//   - In any span of time d, one key is allowed at most Burst + Count·d/Period requests, unless its
//     bucket was dropped to keep the bound below.
//   - Time is an argument and is never taken backwards: a time before the latest one seen in the
//     same shard counts as that one, so a clock that steps back and forward again refills nothing
//     twice. (x/time/rate alone would.) After a step forward by mistake the buckets wait until the
//     clock has caught up; the times of one process carry a monotonic reading and do not step.
//   - A refused request that comes again after RetryAfter is allowed, if no other came first.
//
// # Memory bound
//
// A full bucket is the same as none, and so is a window that is over, so those are dropped, the
// longest unused first, two for each key that is added. There are never more than maxKeys buckets,
// about 240 bytes each beside the key (keys are at most 128 bytes, package ratelimit sees to that).
// At the bound the bucket that was unused for the longest time goes, in the shard of the new key;
// when it was not full, its key begins again with a full one. So choose maxKeys above the number of
// keys that are active within Burst·Period/Count. Keys are spread over shards by a hash with a
// random seed, so that clients cannot crowd one shard.
//
// # Failure policy
//
// There is nothing that could fail: it never returns an error.
package ratelimitlocal

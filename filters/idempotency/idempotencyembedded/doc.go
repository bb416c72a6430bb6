// Package idempotencyembedded keeps idempotency records in a folder on the gateway's own disk, in a log
// ([seglog.Log]). It serves exactly one gateway: the folder is locked, and a second process is refused.
//
// # What it promises
//
//	gateway killed    nothing acknowledged is lost
//	machine lost      the disk decides: every step was synced to it
//	disk full or bad  steps are refused until it takes writes again, see below
//
// A step is on disk when the method returns, and cannot be read before. Two steps need no disk, because
// losing them changes nothing that can be seen: the renewal of a lease, and a claim of a free key under
// which nothing has been sent. Opening settles both of them anyway.
//
// # How it works
//
// Each entry of the log is a whole record, its removal, or a secret; the newest entry of a record is the
// record. In memory are the records in flight, whole, and for all others a slot of the index: a hash of the
// ID and the entry's place. Where a slot matches, the entry is read and its ID compared, so two IDs of one
// hash are told apart. This is the design of Bitcask (see package seglog) with a smaller index.
//
// A call decides under one mutex, by the pure core, and encodes its step into the batch that is being
// gathered; then it waits for that without the mutex. What it has to read from the disk first, it reads
// without the mutex too, and decides when the index still says the same. Nothing waits for the disk under
// the mutex.
//
// # Invariants
//
//   - A record has one step in the log at most that is not durable; other calls for it wait until that is.
//   - A place in the log that counts is named once: by a record in memory, by the index or by a secret.
//
// # Opening
//
// All of the log is read. A record found in flight belongs to a process that is dead, since the folder is
// locked: it reads as unknown. Delegated records stay: the coordinator knows their outcome.
//
// # Expiry
//
// Expired slots are swept a few shards at a time, and records in memory all at once. What is swept counts in
// the log no more, and the log's compaction frees the room.
//
// # Damage
//
// The log finds every damaged entry, and the others still are read. It is reported (an error in the log with
// file, offset and length; [Stats]), since one of these can follow:
//
//   - an older entry of the record is the newest again. A claim reads as unknown then, whatever its outcome
//     was: safe, the route's onUnknown decides. So does an earlier attempt; and where the removal of a
//     record is lost, the record is back, which refuses or replays but executes nothing.
//   - it was the record's only entry, and its header and ID are sound: the key is refused, with an error,
//     until the record would have expired.
//   - it was the record's only entry, and its header or ID is damaged: the key is free, and is executed
//     again when it comes again. That is why it is an error.
//   - a secret is lost: it is drawn again, and the names that are derived from it change.
//
// A record that is found damaged while the store is open is an error of the calls for that key
// ([idempotency.ErrCorrupt]), never a free key; the others are served. Its segment stays until its records
// have expired.
//
// # Memory
//
// A slot has 24 bytes, and up to half of the slots are idle: 30 to 45 bytes a record, about 40 MB a million.
// A record in flight costs about 700 bytes. The log has two batches of 1 MiB. MaxRecords bounds it all: a
// claim of a new key beyond is [ErrFull].
//
// # Failure policy
//
// A write or sync that fails: all its callers have an error that wraps [ErrFailed] and names folder and
// cause, none of the steps is taken, and the store is down: it refuses all steps, and Ping, so that the
// routes' onStoreFailure decides; what is there can still be read. The log tries to resume, soon and then
// every second, see package seglog; then the store is whole again, without a restart. Records in flight have
// stayed in flight meanwhile, and are finished then.
//
// A disk that hangs: no method but Wait and Close waits longer than Timeout and a quarter of it; then the
// step may or may not have been taken, and calls are refused until the disk answers. (A read of a record
// that the system has not in memory waits for the disk as long as that takes.)
package idempotencyembedded

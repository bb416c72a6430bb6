// Package idempotencyembedded keeps idempotency records in a folder on the gateway's own disk, in a log of its own. It serves exactly one gateway: the folder is
// locked, and a second process is refused.
//
// # What it promises
//
//	gateway killed    nothing acknowledged is lost
//	machine lost      the disk decides: every step was synced to it
//	disk full or bad  steps are refused until it takes writes again, see below
//
// A step is on disk when the method returns, and nobody reads it before. Two steps need no disk, because losing them changes nothing that can be seen: the
// renewal of a lease, and a claim of a free key under which nothing has been sent. Opening settles both of them anyway.
//
// # How it works
//
// The log is a row of files (segments), written at the end only. Each entry is a whole record, its removal, or a secret; the newest entry of a record
// is the record, and the older ones are dead. This is Bitcask's design (Sheehy and Smith, "Bitcask: A Log-Structured Hash Table for Fast Key/Value Data", 2010).
//
// In memory are the records in flight, whole, and for all others a slot of the index: a hash of the ID and the entry's place. Who finds a slot reads the entry and
// compares the ID, so two IDs of one hash are told apart. A call decides under one mutex, by the pure core, and encodes its step into the group that is being
// gathered; the writer, one goroutine, writes a group, syncs it, makes it visible, and wakes all its callers with one closed channel. Under load a group has
// what came during the sync before, and what those bring who run just then; when idle a step goes at once. Nothing waits for the disk under the mutex.
//
// # Opening
//
// All of the log is read, the oldest segment first. A record found in flight belongs to a process that is dead, since the folder is locked: it reads as unknown.
// Handed records stay: the coordinator knows their outcome. Every opening begins a new segment. Its header says where the one before ends, so that what was not written
// whole before a crash is left out for good, and nothing is ever written behind it.
//
// # Expiry and compaction
//
// Expired slots are swept a few shards at a time. The oldest segment is removed when no entry of it counts. When more of the log is dead than counts, and a slack of
// two segments, what counts in the oldest is copied to the end. Since it is always the oldest that goes, a removal is not copied: nothing older is left
// for it to overrule. Disk: twice the bytes that count, and the slack. Writing: at most one byte is copied for each byte written.
//
// # Damage
//
// Every entry has two checksums, of its header and of all, so every flipped bit is found and the next entry still is; where the header is damaged too, the reader looks for
// the next place where one is sound. A damaged part costs the entries in it and no other. It is reported (an error in the log with file, offset and length; [Stats]), since
// three things can follow:
//
//   - an older entry of the record is the newest again. A claim reads as unknown then, whatever came of it: safe, it is held or asked about. So does an
//     earlier attempt; and where the removal of a record is lost, the record stands again, which refuses or replays but executes nothing.
//   - it was the record's only entry, and its header and ID are sound: the key is refused, with an error, until the record would have expired.
//   - it was the record's only entry, and its header or ID is damaged: the key is free, and is executed again when it comes again. That is why it is an error.
//   - a secret is lost: it is drawn anew, and the names that are derived from it change.
//
// The last group before a crash may lie on the disk in part. Nobody was told that its steps were taken. Such a tail is a warning. A damaged bit in the very last group of a log that
// was not closed cannot be told from that; in one that was closed it is damage.
//
// A record that is found damaged while the store is open is an error of the calls for that key ([idempotency.ErrCorrupt]), never a free key; the others are served. Its segment
// stays until its records have expired.
//
// # Memory
//
// A slot has 24 bytes, and up to half of the slots are idle: 30 to 45 bytes a record, about 40 MB a million. A record in flight costs about 700 bytes. Groups: two of
// 1 MiB. MaxRecords bounds it all: a claim of a new key beyond is [ErrFull].
//
// # Failure policy
//
// A write or sync that fails: all its callers have an error that wraps [ErrFailed] and names folder and cause, none of the steps is taken, and the store is down: it refuses all
// steps, and Ping, so that the routes' onStoreFailure decides; what is there it tells all the same. The segment is cut to where it was synced and never written to again, because after a failed sync nobody knows what the
// disk holds (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). The writer tries to begin a new segment, soon and then every second; when
// that is durable, and had room for a group, the store is whole again, without a restart. Records in flight have stayed in flight meanwhile, and are finished then. On a full disk, segments that nothing counts in are
// removed first, which takes no room.
//
// A disk that hangs: no method but Wait and Close waits longer than Timeout and a quarter of it; then the step may or may not have been taken, and calls are refused until the disk answers. (A
// read of a record that the system has not in memory waits for the disk as long as that takes.)
package idempotencyembedded

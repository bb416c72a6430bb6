// Package seglog is a durable log in a folder, for stores that keep their index in memory: append, group
// commit, read, compact, recover. It knows entries as a key and a body of bytes, and no policy; an owner
// above it has the index and says which entries count.
//
// # How it works
//
// The log is a row of files (segments), written at the end only. The newest entry of a key is what stands,
// and the older ones are dead. This is Bitcask's design (Sheehy and Smith, "Bitcask: A Log-Structured Hash
// Table for Fast Key/Value Data", 2010); the index of keys is the owner's.
//
// An owner decides under its own lock, appends the entry to the batch that is being gathered
// ([Log.AppendLocked]), gives the lock up and waits for the batch ([Batch.Wait]). The writer, one
// goroutine, writes a batch, syncs it, tells the owner where its entries lie ([Owner.Committed]), and wakes
// all callers with one closed channel: group commit (DeWitt et al., "Implementation Techniques for Main
// Memory Database Systems", 1984). Under load a batch has what came during the sync before, and what the
// goroutines bring that can run at that moment: the writer yields to them first. When idle an entry is
// written at once. Nothing waits for the disk under the lock.
//
// # Invariants
//
//   - [Batch.Wait] returns nil only when the entries of the batch are synced and the owner knows where they lie.
//   - Entries of one key are in the log in the order in which the owner appended them. So one that is
//     copied never comes behind a newer one: the owner decides on the copy under its lock too.
//   - Only the oldest segment is ever removed, and only when nothing in it counts. So nothing older is left
//     for a tombstone to overrule, and tombstones are not copied.
//   - Nothing is written behind a place that was not synced, or whose sync failed.
//
// # Opening
//
// All of the log is read, the oldest segment first ([Log.Replay]). Every opening begins a new segment. Its
// header says where the one before ends, so that what was not written whole before a crash is left out for
// good.
//
// # Compaction
//
// The oldest segment is removed when no entry of it counts. When more of the log is dead than counts, and a
// slack of two segments, what counts in the oldest is copied to the end. Disk: twice the bytes that count,
// and the slack. Writing: at most one byte is copied for each byte written.
//
// # Damage
//
// Every entry has two checksums, of its header with the key and of all, so every flipped bit is found and
// the next entry still is; where the header is damaged too, the reader looks for the next place where one
// is sound. A damaged part costs the entries in it and no other. It is reported (an error in the log with
// file, offset and length; [Stats]), and what follows for a key is the owner's to say:
//
//   - an older entry of the key is the newest again;
//   - or it was the only one, and its header and key are sound: [Log.Replay] returns it, see [Damaged];
//   - or nothing is known of it any more.
//
// The last batch before a crash may lie on the disk in part; it was never acknowledged. Such a tail is a
// warning. A damaged bit in the very last batch of a log that was not closed cannot be told from that; in
// one that was closed it is damage.
//
// An entry that is found damaged while the log is open is an [ErrCorrupt] of [Log.Read]. Its segment stays
// until it is discarded.
//
// # Memory
//
// Two batches of 1 MiB and what one entry exceeds that by, with 64 bytes an entry in them; 100 bytes a
// segment; while the log is read, or compacted, 1 MiB more. An owner that asks for [Log.ConditionLocked]
// before it appends stays within that.
//
// # Failure policy
//
// A write or sync that fails: all callers of the batch have an error that wraps [ErrFailed] and names folder
// and cause, the owner is told ([Owner.Failed]), and the log is down: it refuses entries, and can be read.
// The segment is cut to where it was synced and never written to again, because after a failed sync nobody
// knows what the disk holds (Rebello et al., "Can Applications Recover from fsync Failures?", 2020). The
// writer tries to begin a new segment, soon and then every second; when that is durable, and had room for a
// batch, the log takes entries again, without a restart. On a full disk, segments in which nothing counts
// are removed first, which takes no room.
//
// A disk that hangs: [Batch.Wait] waits no longer than Options.Timeout and a quarter of it; then the entry
// may or may not be written, and [Condition] says that the log is stalled until the disk answers. (A read
// that the system has not in memory waits for the disk as long as that takes.)
package seglog

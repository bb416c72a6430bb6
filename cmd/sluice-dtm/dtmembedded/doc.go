// Package dtmembedded keeps DTM's transactions in a folder on the coordinator's own disk, in a log
// ([seglog.Log]) with group commit, behind DTM's storage interface ([storage.Store]). It serves one
// process: the folder is locked, and a second one is refused.
//
// DTM's own store for one machine (bbolt) syncs every write by itself, keeps 16 KB of a saga for ever, and
// takes one gid for another that it begins with.
//
// # What it promises
//
//	process killed    nothing acknowledged is lost
//	machine lost      the disk decides: every change was synced to it
//	disk full or bad  changes are refused until it takes writes again, see below
//
// A change is on disk when the method returns, and cannot be read before.
//
// # How it works
//
// Each entry of the log is a whole transaction with its branches, a key-value pair, or a removal; the newest
// entry of a key is what stands. In memory are the transactions that have not ended, in the order in which
// they are due, and for those that have a hash and the entry's place (the index of Bitcask, see package
// seglog). A call decides under one mutex and appends to the batch that is being gathered; then it waits for
// that without the mutex. What it has to read from the log first, it reads without the mutex too.
//
// # Semantics
//
// Those of DTM's interface. Where its stores differ:
//
//   - A write that fails is a panic, which DTM turns into a response of 500. (DTM 1.19.0 does not look at
//     the error of MaySaveNewTrans, and would run a saga that was not stored.)
//   - TouchCronTime of a transaction whose status is another one by now is NotFound, as in Redis; bbolt
//     brings the old status back.
//   - What a delivery of a concurrent message has no place for is passed over: DTM makes these deliveries in
//     goroutines that recover from nothing, so a panic would end the process.
//   - ResetTransGlobalCronTime makes it due, as in SQL; in bbolt and Redis it does nothing.
//   - A registered branch that is there already is a conflict, whichever of the two operations it is.
//   - Steps and payloads are not kept beside the branches, as in SQL.
//   - A scan has positions of its own, and can return less than its limit beside one.
//
// # Invariants
//
//   - A transaction has one entry in the log at most that is not durable; other changes of it wait.
//   - A place in the log that counts is named once: by a cell or by the index of what has ended.
//   - A transaction that has not ended is due at some time, or is being written, or is damaged.
//
// # Retention
//
// What has ended is forgotten KeepFor after its end; a transaction may say another time in its branch header
// [KeepForHeader]. Beyond KeepMax the oldest are forgotten before their time, with a warning, but none within
// an hour of its end: then new transactions are refused. What has not ended is never forgotten. The log is at
// most twice as long as what is kept, and two segments (128 MiB).
//
// # Damage
//
// The log finds every damaged entry, and the others still are read. It is reported (an error in the log with
// file, offset and length). A transaction whose newest entry is damaged is shown with the status "damaged"
// and is not processed; forceStop ends it. Where the damage covers the entry's key too, an older entry of the
// transaction is the newest again: what was done since is done again, with the same gid and branch; or nothing
// is known of it any more.
//
// # Memory
//
// About 60 bytes for a transaction that has ended, 600 MB at the 10 million of KeepMax; 300 bytes for one that
// has not, a million at most, and their records, which beyond 256 MiB are read from the log when they are
// needed. The log has two batches of 1 MiB.
//
// # Failure policy
//
// A write or sync that fails: all its callers get the error, which names folder and cause, none of the changes
// is made, and the store is down: it refuses changes and can be read. It tries to resume, soon and then every
// second (see package seglog). What was due meanwhile is due then. A disk that hangs: no call waits longer
// than Timeout and a quarter of it; then the change may or may not be made, and changes are refused until the
// disk answers.
package dtmembedded

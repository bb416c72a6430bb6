// Package embeddedstore keeps idempotency records in a folder on the gateway's own disk, by Pebble (an LSM tree with a write-ahead log,
// github.com/cockroachdb/pebble). It serves exactly one gateway: the folder is locked, and a second process is refused.
//
// # What it promises
//
//	gateway killed   nothing acknowledged is lost
//	machine lost     the disk decides: every step was written to it with fsync
//	disk full or bad the step is an error and the store stops, see below
//
// A step is on disk when the method returns. Two steps need no fsync, because losing them changes nothing that can be seen: the renewal of a
// lease, and a claim under which nothing has been sent; opening settles both of them anyway.
//
// # How it works
//
// A step reads the record, lets the pure core decide and writes, under a lock of the record's stripe that is held until the step is on
// disk, so nobody reads what might still be lost. One goroutine writes: it takes all steps that wait, makes them one batch and one
// fsync, as databases do under the name of group commit (DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984).
//
// Each opening draws the next epoch and writes it down. A record in flight carries the epoch of its claim; one of an earlier epoch belongs to a process
// that is dead, since the folder is locked. So all of those are settled at once, without a walk over the records: nothing sent, the record is gone; else its
// outcome is unknown. Handed records stay: the coordinator knows their outcome.
//
// An expiry index, written in the batch of its record, lets the sweep see only what is due. The sweep runs once a second
// in a goroutine that Close stops, in rounds of a bounded number of records.
//
// # Memory
//
// An 8 MiB block cache, two memtables of at most 4 MiB, at most 64 open tables, one entry for each record that is waited for. Disk: the records
// until their expiry, about 200 bytes each beside strings and answer, and what compaction has not reclaimed yet.
//
// # Failure policy
//
// The first write that fails (disk full, I/O error) or read that finds a wrong checksum stops the store for good: that call, all that wait and
// all later calls, Ping too, return an error that wraps [ErrFailed] and names the folder and the cause; nothing hangs and the process lives on, so the routes'
// onStoreFailure decides. It stays so until the gateway is started again, because after a failed fsync nobody knows what the disk holds
// (Rebello et al., "Can Applications Recover from fsync Failures?", 2020); starting again reads what is really there. Pebble
// itself would end the process there, or corrupt its own locks; so the failing goroutine is parked before Pebble sees the error. Close of a
// failed store leaves the engine as it stands, with the folder locked until the process ends.
//
// A folder that is damaged when it is opened is an error that says so and names it; nothing is repaired silently.
package embeddedstore

// Package redisx is what stores on Redis (6.0 or later) share: the client and its options, scripts,
// batching, a watch for failovers, and membership. It knows no policy: keys, scripts and records
// belong to the stores above it.
//
// # Client
//
// [Open] makes a [Client] of plain values, for one server, for the master that sentinels name, or
// for a Redis Cluster. It sets the library (github.com/redis/go-redis/v9) so that the deadline of
// each command is kept and no command is repeated behind the caller's back.
//
// # Scripts
//
// A [Script] is sent by its SHA-1 (EVALSHA). Redis forgets scripts when it restarts; then it says
// NOSCRIPT, and the text is sent once (EVAL). A script is sent again only where Redis says that it
// has not run it: NOSCRIPT, MOVED, ASK, TRYAGAIN, CLUSTERDOWN, READONLY. After a lost connection or
// a timeout it is not: it may have run.
//
// # Batching
//
// Calls that are made at the same moment share a write, a pipeline of commands: while calls come together, a write
// takes along what the goroutines that are ready to run have to send. A single caller does not let others run first,
// since that would wake another processor in vain. At most two writes are in flight to a node, and what comes meanwhile
// goes out with the next one (the principle of group commit). At 64 callers this takes a quarter of the CPU time; a
// single caller pays nothing for it. Each master of a cluster has a batcher of its own, so one that hangs delays its
// own keys only.
//
// It is not go-redis's AutoPipeline, which (in 9.23) drops the deadline of the single command once
// it is queued, and whose API is marked as experimental.
//
// # Connections
//
// The library dials the connections, authenticates, follows sentinels and slots, and closes the connections to a
// master that is one no more. A batcher borrows up to two of them and writes and reads the sockets itself: the library
// takes as long for a command as its system calls take. The caller that leads a write sends it, waits for its replies
// and reads them, so a write is one wake-up beside those of the calls that it took along. The replies are waited for
// before they are read: a read in vain is not made. Once a connection was unused for a millisecond it is looked at
// before it is used, since a server may have closed it. A connection on which anything but the replies to the calls
// came, or not all of them, is closed.
//
// # Replication
//
// A failover loses what the new master had not got. A script whose effects must survive that is
// made with [Script.Replicated]: where its reply asks for it, WAIT 1 follows on the same connection,
// so that it is the server which ran the script that is asked. Each node has a batcher for such
// scripts alone. It lends two connections at most to those that wait, and what asked for no replica
// is done before. Without an acknowledgement in time the outcome is [ErrNotReplicated]. ASK is not
// followed for them: they wait until the slot has moved.
//
// # Invariants
//
//   - A call ends at its deadline, whatever the node does, and a queued one with its context as
//     well. Its outcome is its own.
//   - The queued call with the latest deadline leads a write, and its deadline is that of the
//     write; one that gets its write after its deadline leaves it to the next. A call whose caller
//     allows it less than half of the timeout takes only those along that have as little time, so
//     that no other is cut off with it.
//   - No lock is held while something is sent or reported.
//
// # Failovers
//
// [Watch] asks each master for its run ID, which changes with each start. A master that was
// replaced or restarted may have lost acknowledged writes: it is logged and counted. One that left
// a cluster with no slots is counted as well, though nothing was lost. A maxmemory-policy that
// evicts keys is warned of once for each server.
//
// # Membership
//
// Each [Membership] writes a heartbeat every 2 s and counts the members that did so within 7 s,
// by Redis's clock. While Redis does not answer, the last number stays in force.
//
// # Memory bound and failure policy
//
// Nothing is kept but the connections (128 a node at most), the calls in flight, and a few words
// for each master. Every call is an error at its timeout at the latest; what follows is decided
// above.
package redisx

// Package participant is what a service behind the gateway imports so that no request takes effect twice. It needs database/sql and the
// standard library; the rules are few enough to be written again in another language, so here they are whole.
//
// # What the service sees
//
// Every request carries Idempotency-Key, one opaque value a logical request, and Sluice-Attempt. A call that is part of a transaction (a
// branch) also carries Sluice-Transaction (the gid), Sluice-Branch, Sluice-Op, and DTM's query parameters gid, branch_id, op, trans_type.
// The service believes these only from the gateway: it must not be reachable past it.
//
// # Protocol for branches: the barrier
//
// These are the rules of DTM's sub-transaction barrier (dtmcli, barrier.go), on the same table, so that services with either can share it.
// The network may bring a branch twice, a compensation without its action, and an action after its compensation. In one SQL transaction
// with the effect:
//
//  1. If the op is a compensation (compensate, cancel, rollback), insert a row for the op that it undoes (action, try, action) with reason =
//     this op, unless there is one.
//  2. Insert a row for the op itself with reason = this op, unless there is one. A row is (gid, branch_id, op, barrier_id "01").
//  3. Step 1 inserted its row: there is nothing to undo ([Empty]). Commit, answer 200.
//  4. Step 2 found a row: its reason is the op itself: done before ([Repeated]): answer 200, at best with the first answer. Its reason is
//     another op: the compensation came first ([TooLate]): do nothing and answer 409.
//  5. Else do it, and commit ([Executed]). A refusal rolls back, the two rows too, and answers 409 or whatever the route's failOn names.
//
// # Protocol for other requests: the key
//
// In one SQL transaction with the effect:
//
//  1. Insert a row for the key, without an answer, unless there is one. Another transaction that holds the row is waited for.
//  2. There is one: return the answer in it. The exception: at Sluice-Attempt 1 a stored refusal (4xx) is not replayed, but done again: the
//     gateway counts from 1 only when no earlier attempt had an effect, and the buyer may have more money by now.
//  3. Else do it, put the answer into the row, and commit. An answer that says that nothing was done (408, 425, 429, 5xx) rolls back.
//
// Rows may go when the route's ttl (of a branch: the transaction) is long over; [Guard.Forget] removes those of keys.
//
// # Invariants and failure policy
//
// The effect and its record are committed together or not at all. A failing database is an error, answered 500: the gateway then treats
// the outcome as unknown and asks again with the next attempt. One row a request; nothing is kept in memory.
package participant

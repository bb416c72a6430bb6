// Package transaction turns one request into a global transaction on DTM, the coordinator, and is
// the bridge between the coordinator and the services: it begins transactions, serves the coordinator's
// branch calls, and records how a transaction ended.
//
// # Modes
//
// A saga, TCC, a message and XA differ in how they are rendered and begun, in the operations that their
// steps have, and in what a query says of them. All of that is behind one interface (mode.go); what
// follows is said of sagas and holds for all of them, with the operation that begins a step in place of
// the do.
//
// In TCC, XA and a message with a primary this gateway makes the calls of the first phase itself
// (firstphase.go): it prepares the transaction at the coordinator, claims the record of each call before
// it registers its branch, so that no cancel overtakes it, and submits or aborts when it knows the
// outcome. The decision is in a record before it is sent (decision.go), and whoever finds one there
// decides nothing; a submit is sent once, for DTM loses the confirms of TCC that is submitted twice.
// Whoever dies in between leaves a transaction that the coordinator ends when its time is over. What the
// coordinator calls later is in what was registered, so it needs no store here. How a message and its
// query exclude each other is told in messagemode.go, how a service of XA registers in xaregister.go.
//
// # One submit a gid
//
// Submitting a gid twice runs it twice, so the idempotency record guards it, in this order:
//
//  1. The key is claimed (in flight, nothing dispatched). A crash from here on frees the key:
//     nothing was submitted.
//  2. The coordinator is asked for the gid. What it knows already, running or succeeded lately, is
//     followed and not submitted again. The gid names the request and not its key alone (gid.go),
//     so that another request with a used key is not taken for it. That is one query, also for a claim
//     of which the record knows no earlier attempt: a store may lose records. For a saga there is none where the
//     coordinator is sluice-dtm, which refuses at step 4 to submit a gid that it knows (newonly.go).
//  3. The record is marked as delegated, durably. An owner that has lost the claim fails here and
//     submits nothing.
//  4. The saga is submitted, once. When the submit is not acknowledged the coordinator is asked; it
//     is never submitted again.
//
// A gid that is refused at step 4 is asked for then. It is followed, or, where it is over, used up by a record of its
// first step: the request gets 503 and its key is free, and its repeat takes the next gid. That happens only to a key
// that comes again when its records have expired while the coordinator still has the transaction.
//
// A saga that goes well costs no other query: the coordinator says that all steps are done, and this process has seen
// each of them done (running.go). Where it has not, the coordinator is asked for what it has stored.
//
// From then on the coordinator knows the outcome. Duplicates ask it; a crash of this gateway
// changes nothing: any gateway that finds the delegated record (at its start, and every half
// minute) follows it to its end and records the response.
//
// A gid that is delegated and that the coordinator does not know, for half a minute, was never
// submitted: the gateway died between the steps 3 and 4, or the coordinator before it had written it. Its steps are
// ruled out first (ruleout.go), since a submit may still be on its way. Then nothing was done and nothing will be: the
// transaction has failed, as its status says for as long as the records of its steps live, and the key is free
// again, for a key may be the number of a payment. The next request with it takes the next gid. For a record older
// than ten minutes, or one of which a branch was called, the coordinator must have
// lost its data: then the outcome is unknown, the record stays, and an error is logged until an
// operator resolves it.
//
// Where the coordinator has lost what was prepared, a submit makes it anew, without a branch, and it calls that
// succeeded: the outcome is unknown here too, and the record stays (phaseview.go). A message that comes to it when it
// was called failed it would deliver in vain for ever, so it is told to stop it (ruleout.go).
//
// A step is done only while the record is delegated under that very gid. So a submit that arrives
// late, after the record was settled, does nothing but roll back. A record that an operator settles by force within a
// submit of this process takes effect on its steps when the submit has ended, after fifteen seconds at most.
//
// # Admission
//
// Before step 2 the filters of every service that a step calls are asked for room ([filters.Reserve]),
// all or nothing: breakers, queues, limits. A refusal is the service's own, nothing was submitted, and
// the key is free; so nothing is begun that a later step would have to shed, which would waste what the
// steps before it did and cost their undoing besides. What the filters keep belongs to the calls of the
// steps in this process (reservations.go). A do without such a place, because it came to another gateway
// or after a restart, is let in as a critical request; one that is refused for want of room comes again
// after the same delay (425), for as long as the transaction has time, and its record is free: it was no
// attempt. An undo is never refused for want of room.
//
// # What a signature allows
//
// Whoever can read the coordinator's data has the signed calls of every transaction, so a signature
// says only that the gateway made the call, and the state of the transaction whether it may be made
// now: a do while it runs, an undo while it is rolled back and no do of the same step is under way.
// The record of the transaction is looked at first, then the coordinator is asked: one query for
// each branch call whose end is not recorded. Nothing is asked for the first do of a step of a saga whose submit this
// process waits for, while the branch address is its own: it knows that the record is delegated, and would know of a
// refusal, of an undo, and of the end of the time (running.go). A call that the state does not allow is 409, and one
// of which the state is not known 425, so that it comes again; in both cases no service is called. A
// call that comes again after its end gets the recorded end, in whatever state the transaction is.
//
// # Branches
//
// The coordinator reads only 200, 409 and 425, and words in bodies, so it calls the gateway's
// branch address and never a service. The URL has gid, step and operation and an HMAC over them,
// the step's number and the payload; the payload is an envelope with the call as it was rendered
// from the client's request, so a transaction ends as it began whatever the configuration has
// become. The response is translated: 2xx is 200, a status of failOn to a do is 409, all else is
// tried again.
// A do that was refused at its first call left nothing to undo, so its undo is answered without a call; one that was
// refused after a call of unknown outcome is undone. A status of nothingOn to an undo is 200. The
// coordinator's delay between two calls of a branch, which it
// doubles without end, is held to the transaction's limit (backoff.go).
//
// A branch call has an idempotency record of its own: attempts are counted in it, a second call of
// the coordinator while the first still runs gets 425, and one after the end gets the recorded end.
// A call that takes longer than the coordinator waits goes on in the background.
//
// The end of a do that was done is written while the coordinator goes on, together with those of other calls
// (ends.go, flush.go), unless gateways share the branch address. Should this process die before, the call is made
// once more, with the same Idempotency-Key. The end of an undo, and of a call that was refused, is written before
// the coordinator gets it: what is undone next hangs on that.
//
// # The order of undos
//
// It is the coordinator's (DTM v1.19.0, trans_type_saga.go): a step is undone when all that came after it is. So
// in a saga whose steps come one after the other an undo that is never done holds up those of all steps before
// it, for ever; nothing at the gateway may change that, since what is undone first was built upon what is undone
// later. Steps that do not come after one another (after) are undone at the same time, and none waits for the
// undo of another. An undo that waits shows as compensating, and the one that it waits for as stuck.
//
// # What was gone is back
//
// The coordinator doubles its delay, so what waits would wait on when a service is back. It is told to go on at
// once when a service at which branches failed is reached again or its breaker has closed, when the coordinator
// is back, and when the gateway starts and finds transactions under way; every ten seconds at most, a thousand
// transactions at most, and none that is due within five seconds. A service that is still broken is spared
// (advance.go).
//
// # Memory
//
// One entry for each delegated record whose end is not recorded, at most 10000 new ones a scan, and one for each
// submit in flight. Places of at most 50000 transactions, none for longer than half a minute. At most 10000 ends
// that are not written yet, of some 5 KB. At most 4096 transactions in their first phase, with calls of 64 KiB and,
// of each step that others refer to, a response of 16 KiB; one more is refused (503 overloaded).
//
// # Failure policy
//
// Coordinator down before step 4: 503 coordinator-unavailable, the key is free again. Down later:
// 202, and the bridge follows when it is back. Store down at step 1 or 3: 503 store-unavailable.
// Store down before a branch is called: 500, the coordinator tries again; down when the service has
// answered: the end is kept, given to the coordinator and written later (ends.go). Coordinator that calls a branch and
// does not answer for its state: 425, the same. Client's wait over: 202; the submit and
// the transaction go on. A service that is not in the configuration any more: tried again, and
// logged as an error.
package transaction

// Package transaction turns one request into a DTM global transaction and stands between the coordinator and the services.
//
// # One submit a gid
//
// Submitting a gid twice runs it twice, so the idempotency record guards it, in this order:
//
//  1. The key is claimed (in flight, nothing sent). A crash from here on frees the key: provably nothing was submitted.
//  2. The coordinator is asked for the gid. What it knows already, running or succeeded lately, is followed and not submitted again. The gid names
//     the request and not its key alone (gid.go), so that another request with a used key is not taken for it.
//  3. The record is marked as handed, durably. Whoever has lost the claim fails here and submits nothing.
//  4. The saga is submitted, once. After any doubt the coordinator is asked, never told again.
//
// From then on the coordinator knows the outcome. Duplicates ask it; a crash of this gateway changes nothing: whichever
// gateway finds the handed record (at its start, and every half minute) follows it to its end and records the answer.
//
// A gid that is handed and that the coordinator does not know, half a minute long, was never submitted: the gateway died
// between the steps 3 and 4. It ends as failed; nothing was done. For a record older than ten minutes, or one of which a branch was called,
// the coordinator must have lost its data: then the outcome is unknown, it is held so, and it is logged as an error until somebody resolves it.
//
// A step is done only while the record is handed under that very gid. So a submit that comes late, after the record was settled, does
// nothing but roll back.
//
// # Branches
//
// The coordinator reads only 200, 409 and 425, and words in bodies (dtm facts), so it calls the gateway's branch address and never a
// service. The URL carries gid, step and operation and an HMAC over them, the step's number and the payload; the payload is an envelope
// with the call as it was rendered from the client's request, so a transaction ends as it began whatever the configuration
// has become. The answer is translated: 2xx is 200, an answer of failOn to a do is 409, all else is tried again.
//
// A branch call has an idempotency record of its own: the attempts are counted in it, the coordinator's second call while the first
// still runs gets 425, and one after the end gets the recorded end. A call that takes longer than the coordinator waits
// goes on in the background.
//
// # Failure policy
//
// Coordinator gone before step 4: 503 coordinator-unavailable, the key is free again. Gone later: 202, and the reconciler
// follows when it is back. Store gone at step 1 or 3: 503 store-unavailable. Store gone at a branch: 500, the coordinator tries
// again. Client's wait over: 202; the submit and the transaction go on. A service that is not in the configuration any more: tried again, and logged as an error.
package transaction

// Package idempotency makes the requests of a route safe to repeat: every logical request happens
// once, however often a client, a load balancer or a retry sends it.
//
// A logical request is named by the digest of its scope (the principal is always part of it) and
// the client's key. Its record has three ends (after the draft
// draft-ietf-httpapi-idempotency-key-header and Stripe's API, with the third one made explicit):
//
//	answered  the response is recorded and final; every duplicate gets it
//	free      nothing happened: no record, the next request starts at attempt 1
//	unknown   something was sent and no response is known; held, or tried again where the service
//	          honours the injected key
//
// An unknown outcome can also be settled by the service itself: a probe asks it what became of the
// request, see [Probe].
//
// A claim is a lease with a fencing token (Gray and Cheriton, 1989; Kleppmann, "How to do
// distributed locking", 2016). Its owner renews the lease while the request runs, up to a hard cap,
// so neither a crash nor a hung service pins a key for ever; the token fences off a late owner,
// whose claim another one has taken over. A transaction's request is delegated to its coordinator:
// no lease runs then, since the coordinator knows the outcome.
//
// # Late owners
//
// An owner that was stopped beyond its lease may come back with a response. What happens to it
// depends on the record alone:
//
//	nobody took the key over          it is recorded
//	the other attempt runs            the request waits for it like a duplicate
//	the other attempt was answered    the client gets the recorded response
//	the other attempt was not         it is recorded: it is the true response to an unknown outcome,
//	executed, or is unknown           and the other attempt's, should it come yet, is not
//	the record is of a later request  nothing is changed; the client gets what that record says,
//	                                  if it is of the same request, else its own response
//	there is no record any more       the client gets its own response
//
// An owner that comes back without a response to record (the service did not execute its attempt, or
// failed, or nothing was sent) changes nothing, and its client gets what there is in place of one;
// but while the other attempt runs the request waits as above, and when that one was answered the
// client gets the recorded response.
//
// A further attempt that ends as not executed takes only itself back: what became of the ones
// before it stays unknown.
//
// Duplicates are joined inside the process before they reach the store ([Calls]); across processes
// they wait in the store.
//
// # Invariants
//
//   - At most one execution of a key at a time, and at most one at all unless the route says that
//     the service honours the injected key.
//   - The fingerprint is compared before anything is replayed, whatever the state of the record.
//   - The response is in the store before the client has it whole.
//   - No client gets a response that the record of its request contradicts, as long as the store
//     takes steps.
//   - Every claim ends: answered, freed, marked unknown, or by its lease.
//   - A response that does not open ([ResponseCodec]: damaged, or not sealed for this record) is
//     never served; the outcome is unknown then.
//   - A principal has no more live records on a route than MaxOpenKeys, however many requests come
//     at the same moment.
//
// # Responses
//
// A response is kept whole: status, header (but Set-Cookie, what is of one connection, and
// OmitHeaders), body up to MaxBody, trailer. It is compressed where that pays and sealed where
// there are keys. A longer one, and a stream, is passed on and recorded as done, not replayable. A
// body that is to be recorded is read no longer than the claim can last (MaxInFlight); one that has
// not ended by then leaves an unknown outcome.
//
// # Open keys
//
// The first characters of a record's ID say whose it is ([Owner]), so that every store can count
// without looking elsewhere, and a cluster keeps all that one principal has on a route in one slot.
// A store counts what is claimed while a number is set; the names are the same without one.
//
// # Reloads
//
// The name of a request is made of its scope, the principal, the route and the client's key, and of
// nothing else. So no setting but scope, where the key stands, and identity (which makes the
// principals) renames what is recorded; the gateway warns of those at a reload.
//
// # Before the claim
//
// Filters behind this one may refuse a request before its key is claimed ([filters.KeyGuard]). A refusal that is not
// for good leaves the record as it is, whatever it says. Keys of which this process has seen a record go on to it:
// the last 131,072 are remembered by hashes of 64 bits, as long as they are not free again.
//
// # Memory
//
// Where there are such filters, 1 MiB for those keys, once for the process. The digests of the principals that
// were seen last are remembered, 4,096 for all routes: some 400 KB beside the principals' own lengths, at most
// 256 bytes each.
//
// In the process: a handle of some 700 bytes for each request that runs or waits, nothing for finished ones. The next
// request takes it over, with up to 48 KiB in which the last replay lay (what is longer is not kept), unless others may
// have it still; so neither a claim nor a replay allocates anything here. A call in flight is a link in its handle. The
// leases of a route are renewed by eight timers for all of them, 1 KB from its first key on, and a channel to wait on
// is made when somebody waits.
//
// The strings and bytes of an exchange lie in buffers that the next request overwrites. What
// outlives the exchange is a copy: the record's name, the response for those who have joined, a
// step that is taken in the background. A store copies what it keeps, see [Store].
//
// # Failure policy
//
//   - Store gone at the claim: onStoreFailure (closed: 503 store-unavailable; open: forwarded
//     without protection, still with the injected key). A claim whose acknowledgement was lost is
//     given back in the background.
//   - Store gone at the end: the client gets the service's response all the same, and the end is
//     written in the background until the cap; failing that, the lease lapses and the outcome reads
//     as unknown, which is the truth.
//   - Client gone: the request runs on and is recorded; what is passed on unrecorded is read to its
//     end, so that the service can finish, as long as the claim could have lasted.
//   - Service does not say what became of a request: its outcome stays unknown, and the next
//     duplicate asks again.
//
// # Logs
//
// A record is named by its ID, which is a digest of scope and key. The client's key itself is
// written nowhere but into the record, for operators.
package idempotency

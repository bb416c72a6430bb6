// Package sale lets no more units of an item through to the services than a flash sale has.
//
// # How it works
//
// Stock is a number of admission tokens in a store that the whole fleet shares. A request takes its units in one atomic
// step behind the claim of its idempotency key, under the ID of the key's record, and they are settled by what becomes
// of that record:
//
//	a final response of 2xx        confirmed
//	another final response         on sale again; for a transaction that was rolled back this is its 409
//	the key is free                on sale again
//	the outcome is unknown         taken until somebody knows
//
// This is how Easegress and DTM's example of a flash sale admit, with two differences: the token belongs to the
// idempotency record, so that a retry takes no second one and a lost response loses none; and the verdict may come long
// after the exchange, by a probe, the coordinator or an operator.
//
// # Who settles
//
// A [Settler] hears of the ends of records in its own process ([Settler.Ended]) and settles at once what this process
// took. Whatever it does not hear, since a gateway was killed, or another one settled the record, a sweep makes good:
// it reads the units that have been open for some seconds and looks at their records. A unit has the fencing token of
// the claim that took it last: a notice of an earlier claim changes nothing.
//
// A claim that ends when its record is gone, since the store has lost it, is settled by what its process knows: a
// response of 2xx confirms, and a request that may have been executed holds its unit.
//
// # What is told from memory
//
// Each process mirrors the IDs that have taken units of an item, by the versions that the store counts ([Changes]).
// [Filter.BeforeClaim] speaks before the key is claimed, with no step of the store of keys. To whoever has to wait for
// its admission it tells the place, and before the opening that the sale is not open, unless the key is known here. A
// buyer's repeat that comes to a gateway which does not know its key waits too, and has its response when it is
// admitted.
//
// While an item is sold out and the mirror is complete, it tells so everybody whose ID is not in it,
// with no step of the store. Who is in it goes on to its record: a buyer's retry is replayed also when all is sold.
// Units that come back by this process put the item on sale at once, those that come back elsewhere within 0.1 to 0.13
// seconds. What was read is used for 0.2 seconds, and a request that got a unit which may have come back after all were
// taken goes on to the service after 0.25: by then every gateway knows its ID, so that whoever has its response is told
// of it everywhere. Only a duplicate that comes before the response, and to another gateway, can be told that all is
// sold.
//
// A key that has taken units of one item of the sale is not told from memory that another is sold out: its record
// says that it was used for another request (422). Of what other gateways sell this is known when it has been read:
// while something is sold out, ten items of the sale that are not are read in each round of 0.1 seconds, too.
//
// # Invariants
//
//   - No more than the total is reserved, confirmed or unknown at any time. When the total is lowered below that, what
//     is taken stays, and nothing more is let through.
//   - A logical request has units once, however often it comes.
//   - A unit whose purchase may have been executed never goes back on sale. A record that is gone was made free, unless
//     it may have expired (a unit older than the record's TTL): then the unit stays taken, though it may be free.
//   - A further attempt of a purchase of unknown outcome passes with its units, also when the sale is over, and without
//     the waiting room at a gateway that knows its key.
//   - Every unit of a request that was not executed comes back, as long as some gateway runs with the sale configured
//     and looks within the TTL of its record.
//
// # Limits
//
// PerPrincipal counts the units of one item. A principal is kept as a digest.
//
// # Memory
//
// In the process, some 200 bytes for each ID that is mirrored, 100,000 of an item at most; for an item with more keys
// the store tells that it is sold out. 300 bytes for each unit that is being bought, 100,000 at most; the sweep settles
// those beyond. An item costs 1 KB, 100,000 of a sale are known at most. Clients choose none of these: IDs are mirrored
// of requests that got units, and items that are not part of the sale leave no trace.
//
// # Failure policy
//
//   - Store gone at the taking: nothing is sold (closed, 503 store-unavailable), and the key is free again. Units whose
//     acknowledgement was lost come back with the key.
//   - Store gone at the end: it is tried again every second, and by the sweep.
//   - What was known to be sold out stays so while the store is gone.
package sale

// Package saleredis keeps the units of sales in Redis, for all gateways that share it.
//
// An item has two keys with one hash tag, a digest of sale and item, so they lie in one slot and one script decides on
// both:
//
//	PREFIXsale:{DIGEST}      a hash. n taken, c confirmed, h unknown, r returned, v version: numbers. pPRINCIPAL:
//	                         units of a principal. iID: a unit, packed
//	PREFIXsale:{DIGEST}:ids  a sorted set of what is looked for. vID by the version at which the ID took its units;
//	                         oID of a unit that may have to be settled: by its time in milliseconds where it is
//	                         reserved, by the negative of that where it is unknown, by 10¹³ and the time at which its
//	                         record expires where it was returned
//
// Versions stay below 10¹¹ and times in milliseconds above 10¹² (until the year 2128), so the four ranges are apart.
// Units are stored with the version that [sale.Decide] gives them; the scripts make its decisions, and those of
// [sale.Settle], on Redis's clock. One item is in one slot: it is not split over several, so what one server does in
// scripts (some 100,000 a second) bounds the requests for one item that are not told from memory that it is sold out.
//
// # Memory
//
// Some 200 bytes for each ID that has units or whose units came back within the TTL of its record, and 60 for each
// principal with units. The keys of an item go seven days after its sale has closed; those of a sale that never closes
// stay.
//
// # Failovers
//
// With AOF always a restart loses nothing that was acknowledged. A failover loses what the replica that becomes the
// master had not got, and units that are lost would be sold again. So a request is let through only when one replica
// has acknowledged its units: the script says how many replicas are online, and where there is one, WAIT follows it on
// the same connection ([redisx.Script.Replicated]). It also covers the claim of the request's key where that lies on
// the same server, since it was written before. Requests that take nothing wait for nothing, nor does anything else.
//
//   - A replica is online and none acknowledges in three quarters of the time that is left of the timeout, or WAIT is
//     not permitted: the taking is an error, and nothing is let through. The unit goes back by its token when the key
//     is free. A replica that hangs stops the sale so, until Redis drops it (repl-timeout).
//   - No replica is online, as after a failover until the old master has come back: the request is let through, since
//     there is nothing to wait for. Where a replica is expected, behind Sentinel or since there has been one, that is
//     counted and logged ([Options]). With min-replicas-to-write 1 Redis refuses such writes, and so does the sale.
//     Without that setting a master that was cut off and replaced sells on to the gateways that still reach it, from
//     when it drops its replica until it hears that it was replaced.
//
// One acknowledgement is enough where the replica that is furthest becomes the master, as Sentinel chooses among those
// of the same priority. In a cluster the record of a key may lie on another server, which can lose it in a failover of
// its own: then the key counts as made free and its unit comes back, though it may have been sold. While a slot with
// both keys of an item is being moved, nothing of the item is taken until it has moved.
//
// A confirmation or return that is lost is made good by the sweep, and a unit that was let through without a replica
// and is lost is stored again when its purchase ends ([sale.Store.Settle] with lost).
//
// A master that restarts with AOF everysec may lose its last second: where nothing may be oversold it is AOF always.
//
// After a failover versions are given once more. The [redisx.Watch] of the client notices it within a second; from then
// on [sale.Changes] has another epoch, so that mirrors are read anew.
package saleredis

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
// # What is lost
//
// With AOF always nothing that was acknowledged. When a replica becomes the master, units that it had not got are lost
// with it: they are stored again when their purchases end ([sale.Store.Settle] with lost). So the item is oversold by no
// more than what was taken in the lag; units of purchases that also ended in it are not counted again. A master that
// restarts with AOF everysec has a lag of a second: where nothing may be oversold it is AOF always.
//
// After a failover versions are given once more. The [redisx.Watch] of the client notices it within a second; from then
// on [sale.Changes] has another epoch, so that mirrors are read anew.
package saleredis

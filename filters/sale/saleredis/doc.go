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
// [sale.Settle], on Redis's clock. One slot bounds the requests for one item that are not told from memory that it is
// sold out to what one server does in scripts, some 100,000 a second.
//
// # Items that are divided
//
// So an item with much stock is divided into 8 parts, each with the two keys above under a hash tag of its own,
// {DIGEST.NUMBER}, in 8 equal ranges of the slots. It is divided when its first unit is taken, if the total is
// [DivideFrom] then and the store is a cluster: on one server parts bring nothing. The stock decides, and not the rate,
// since the rate is known when the item has units in one slot already, and an item makes the store work for as long as
// it has stock: what is sold out is told from memory. An item stays as it was begun, whatever becomes of its total.
//
// A principal's units are in one part, by its digest, so that perPrincipal is exact, and that an ID finds its unit
// whatever gateway it comes by. It is not the request that goes from part to part, but units: they are a part's
// credit, as in escrow (O'Neil, 1986) and the bounded counter (Balegas et al., 2015).
//
//		books  PREFIXsale:{DIGEST}, field s: for each part what it was granted ever (G), what it gave back ever (B),
//		       and whether it takes nothing since; the total in force
//		part   field q: G, B and the total as far as it knows them
//
//	  - A part takes units within G - B, without the books. They grant it a 16th of what they have, and before that is
//	    used up one taking fetches more. A taking is one step, but for some hundred of an item.
//	  - When the books have too few, all parts give back what is left of their credit, and take nothing until they are
//	    granted some again. The last units are so granted one by one.
//	  - G and B only grow, and whoever finds the higher value passes it on. So a grant or a giving back whose taker
//	    was killed in between is made good by the next who comes by, and one that comes twice changes nothing. What is
//	    granted is in the books before the part has it, and what is given back is gone from the part before the books
//	    have it: the units that can be taken are never more than the total, and none gets lost.
//	  - What a part gave back the books hear by the recall alone, which waits for a replica of the part: after a
//	    failover it would have the units once more.
//	  - A part takes only for a total that is not below the one in force at its grant. The total in force changes when
//	    no part takes. So a lower total holds as soon as a gateway asks by it, for all that ask by it; gateways with
//	    another total, as with a stock that is read, cost steps, and units only to their own totals.
//	  - It is sold out when at one moment too few units are left in all. That moment lies between two looks at all
//	    parts of which the second finds the versions of the first. Where others wait for units in the same process,
//	    one look speaks for all who came before it.
//	  - Units come back to the part that they were taken from.
//	  - The books that are lost are written anew by what the parts say, before anything is granted.
//
// Of a divided item the version is the sum of the parts' versions, and a [sale.Mark] has each. Numbers after a taking
// are those of the parts as this process read them last ([sale.Counts] Mixed): they put it on sale, and only two equal
// looks have it told from memory that all is sold. Units that may have come back after all were taken ([sale.Taking]
// Again) are those that were granted after the books had given out all, and those of a part in which as many have come
// back since its last grant as are left.
//
// A server that is gone takes its parts with it: their principals are refused (closed), others buy what their parts
// have and what the books have, and nobody is told that all is sold, since units are left there perhaps. A slot that is
// being moved is such a part for that time.
//
// Gateways of the version before know no parts. Where they meet a divided item their scripts fail before they change
// anything, as its field n is a word: they sell nothing of it (503, and in the log "attempt to perform arithmetic on
// local 'n' (a nil value)"), and what they had taken the others settle. A form of later versions is refused with the
// words "update it". For the time of a rolling update that closes the sale of items with much stock at old gateways,
// and nothing else.
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

// Package notify tells a receiver how a transaction ended: one signed POST of its status resource, repeated until the
// receiver has taken it.
//
// # What is durable
//
// Two records beside the transaction's, in the same store:
//
//	notice    made before the transaction is submitted; it has the body once the end is known, and is removed
//	          when it is delivered. So a gateway that dies at any point leaves what is to be sent, and any
//	          gateway of the store finds it (a search at the start and every half minute)
//	delivery  claimed by the gateway that sends: its lease is the time of the attempt and then the delay before
//	          the next one, so a fleet makes one attempt at a time, and its attempt counts those of the fleet
//
// It is sent at least once: a gateway that dies between the receiver's 2xx and the record of it leaves a notice that
// is sent again. The receiver drops those by the gid.
//
// # Attempts
//
// 2xx is delivered. Anything else is tried again: after 1 s, then twice as long each time, an hour at most, each
// delay drawn from its upper half, for 24 hours from the end of the transaction. Then it is given up, which is an
// ERROR with the gid. An attempt takes ten seconds at most; redirects are not followed; of the response no more than a
// few bytes are read.
//
// # Signature
//
// As Stripe has it: Sluice-Signature: t=UNIX,v1=HEX, the HMAC-SHA256 over "UNIX.BODY" with the secret. Each attempt
// is signed anew, so that a receiver may refuse what is old.
//
// # Where it does not go
//
// The address is looked at when it is dialled, behind the resolver, so a name that leads to another address
// the next time is no way around it: loopback, private, link-local (the metadata services of clouds among them) and
// other addresses that are not of the public internet are refused, in whatever form of IPv6 they come (RFC 4291
// IPv4-mapped, RFC 6052 NAT64, RFC 3056 6to4, RFC 4380 Teredo), unless the receiver is private. No proxy is used.
//
// # Memory
//
// One entry of some 200 bytes, and the body while it is sent, for each notice that is not delivered, at most 10000;
// what is beyond stays in the store until there is room. Eight attempts at once for each receiver, so one that hangs
// holds up only its own.
//
// # Failure policy
//
// Store gone before the submit: the transaction is refused (store-unavailable), nothing was submitted. Gone later:
// the end is looked for again. Receiver gone: see Attempts. A transaction whose notify is not configured any
// more: its notices are dropped, and that is logged.
package notify

// Package budget bounds what a process spends on all of its clients together: requests under way,
// bytes that wait in memory, descriptors of connections to services. A bound on connections, or on
// one request, does not: a connection of HTTP/2 carries hundreds of requests, and a request of one
// kilobyte may keep megabytes of a response waiting.
//
// There is one [Budget] a process, and one [Account] for each connection of a client. What a
// connection causes is acquired from its account and released to it, also by what goes on when the
// client has left.
//
// # Fairness
//
// An account is refused where it, or all accounts of its client together, would hold more than a
// multiple of what is then left free (dynamic thresholds: A. K. Choudhury and E. L. Hahne, "Dynamic
// queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking
// 6 (2), 1998). The multiple is 1/4 for a connection and 4 for a client. So one client gets at most
// 4/5 of a resource while nobody else wants it, n clients that take what they can leave 1/(4n+1)
// of it free, and for the next client there is always something, without a list of who waits.
// Those who share an address with a client of that kind, behind a balancer for instance, find
// something too: a connection that holds little may take its client to 16 x free. The rules in
// full, where free is what would be left after the grant:
//
//   - nothing is granted beyond the limit;
//   - a client that holds something gets no more than 4 x free, and 16 x free for a connection that
//     holds little with it: one request, one connection to a service, 128 KiB;
//   - a connection that holds something gets no more than free/4, but at least its portion
//     ([Limits.Portion]), so that a body of common size is not refused by an idle gateway;
//   - the last 1/32 of a limit is for clients that hold few units of it: four requests, four
//     connections to services, 128 KiB. Many clients that take what they can would leave too little
//     free for the next one to be served at all.
//
// A request takes a unit of its resource and the memory that it needs for itself, both or neither.
//
// A client or connection that holds nothing is thus granted its first unit while anything is free.
// A client is an address; of IPv6 it is the network of 64 bits, of which one machine has every address.
//
// # Invariants
//
// At every moment the units that were granted and not released are at most the limit, unless the limit
// has been lowered since: then nothing is granted until they have fallen below it. An account's units
// are part of its client's, and those of the total.
//
// # Cost
//
// Acquire and Release take no lock and allocate nothing: three atomic additions each. A refusal
// that is due to the shares costs a few loads, and does not touch the total. An account costs a look-up
// under a lock when its connection begins and one when it ends. Memory: an account each connection,
// and an entry for each client that has a connection or holds anything.
package budget

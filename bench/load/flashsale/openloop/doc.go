// Package openloop sends the requests of a sale when they are due, whatever becomes of those sent
// before.
//
// # Open loop
//
// The moments of arrival are drawn before anything is sent (a Poisson process, its seed fixed), and
// a latency runs from the moment a request was due, not from the one at which a connection was free
// for it. So a stall counts for all requests that were due in it: a closed loop, whose clients wait
// for the last response before they send again, would send less just when the server is slow, and
// measure the few requests that it did send (coordinated omission; Gil Tene, "How NOT to Measure
// Latency", and Schroeder et al., "Open Versus Closed: A Cautionary Tale", NSDI 2006).
//
// # Clients
//
// A share of the keyed requests comes twice with the same key, half of those at the same moment as
// the first, half some time after it; another share comes with a used key and another body. A share
// of the clients retries what was refused for the moment or failed, at most so often, some of them
// when Retry-After says and some right away. A share is slow: it sends its request in pieces.
//
// The client speaks HTTP/1.1 over connections that it keeps, and takes the next address in turn, as
// a balancer would; an address that refuses connections is left out for a moment.
//
// # Bounds
//
// A run ends when its last request has its response or its time-out; requests in flight are bounded
// ([Profile.InFlightMax]), and what is beyond is counted as unsent, never sent late. Of each request
// a [Sample] of 24 bytes is kept, and of each keyed one what the audit compares.
package openloop

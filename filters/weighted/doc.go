// Package weighted chooses between several services by their weights, for a new version that is to have a small share
// of the requests.
//
// The choice is weighted rendezvous hashing (C. Schindelhauer, G. Schomaker: Weighted Distributed Hash Tables, SPAA
// 2005; D. Thaler, C. Ravishankar: A Name-Based Mapping Scheme for Rendezvous, 1996). Each service draws a number in
// (0, 1) from a hash of its name and of who asks, and the service with the greatest -weight/ln(number) is chosen.
//
// Invariants:
//   - Who asks keeps the service: the same principal goes to the same one on every route that has these services and
//     weights, at every gateway, after every restart.
//   - A weight that is raised takes requests over from other services and moves none between those; one that is
//     lowered gives some away. Nobody else moves.
//   - A service has the share of its weight, within what chance makes of the number of principals.
//   - A weight of 0 is never chosen. Keys whose first attempt went there still go there.
//
// Who asks is the principal; where there is none the address of the client; where that is not known either, the
// choice is made anew for each request. The health of a service has no part in it, as in Envoy's weighted clusters: to
// take a share away from one that fails would hide that it does, and move its principals to and fro. A route's
// fallback is for that.
//
// A filter holds the names and weights of its services and nothing of requests. It cannot fail.
package weighted

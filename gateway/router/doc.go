// Package router makes the one canonical path of a request and finds the route for it.
//
// # Paths
//
// The path is made canonical once, matched in that form and forwarded in that form, so that the
// gateway and the service cannot read it differently. RFC 3986 §6.2.2: escapes of unreserved
// characters are decoded, other escapes are written in upper case, dot segments are resolved; empty
// segments are merged. What servers are known to read in different ways is refused: an encoded
// slash, a backslash, a control byte, a path parameter (;), a dot segment that leads above the
// root.
//
// # Routes
//
// The route that stands first in the configuration and whose path and method match is taken. How
// specific a pattern is does not matter. A path that some routes have, but none with the method, is
// told apart from one that none has.
//
// The patterns are a trie: an edge is a segment, literal or parameter; a node has the routes that
// end there exactly and those that end there in /**. A search follows the literal and the
// parameter, the one with the earlier route first, and leaves out what holds only routes later than
// the best one found so far (branch and bound). So the order holds, whatever the shape of the trie.
// A further condition of routes (host, fields) would be evaluated at the node, on its routes in
// order.
//
// # Bounds
//
// A search visits a node at most once, and of those at depth d at most 2^d. With n segments in the
// path that is at most min(nodes, 2^(n+1)-1), where nodes is at most 1 plus the segments of all
// patterns; only patterns that have literals and parameters in many of the same places come near
// it. At a node it takes one or two look-ups in a hash map, however many routes or methods there
// are. It allocates nothing. A route takes some hundred bytes beside its pattern's text.
package router

// Package router makes the one canonical path of a request and finds the route for it.
//
// The path is made canonical once, matched on in that form and forwarded in that form, so that the gateway and the service
// cannot read it differently. RFC 3986 §6.2.2: escapes of unreserved characters are decoded, other escapes are written in upper case, dot segments
// are resolved; empty segments are merged. What servers are known to read in different ways is refused: an encoded slash,
// a backslash, a control byte, a path parameter (;), a dot segment that leads above the root.
//
// Routes are tried in the order of the configuration and the first whose path and method match is taken.
package router

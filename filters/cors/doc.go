// Package cors lets scripts of other origins use a route: it answers their preflights, and tells the browser what of
// a response they may read (the CORS protocol of the Fetch standard,
// https://fetch.spec.whatwg.org/#http-cors-protocol).
//
// # Preflights
//
// A preflight is an OPTIONS request with Origin and Access-Control-Request-Method. It is answered by the filter, which
// stands first in its chain, so it needs no key and costs no limit. 204 with the fields says yes. An origin that is
// not allowed gets 403 forbidden without them: to a browser that is the same no, and whoever looks at it is told why.
// The fields that the script wants to send are allowed as they are asked for: what a client may send is for the other
// filters to say, and a list would have to be kept in step with them.
//
// # Responses
//
// Every other response of the chain carries the fields, for the origin of the request that it answers: also refusals,
// and replays, which are recorded without them. What the service itself says of origins is taken out, for two answers
// to one question are none. A request of an origin that is not allowed is served: CORS keeps scripts from reading, and
// protects no service.
//
// # Caches
//
// A response that differs by origin says so in Vary. Memory: none beside the settings.
package cors

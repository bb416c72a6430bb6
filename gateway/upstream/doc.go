// Package upstream sends requests to the services: which endpoint, which connection, whether again. The exchange itself is package http1's (or HTTP/2's, for
// h2c endpoints), in the caller's goroutine, so that it is always known whether a byte of a request went out. Endpoints are reached by TCP, TLS or a unix
// socket.
//
// net/http's Transport is not used: it resends a request with an Idempotency-Key by itself when a pooled connection turns
// out closed, and does not tell. Here a request is repeated only as the service's retries say:
//
//   - connect-failure: no connection came about; nothing was sent.
//   - reset-before-request: a pooled connection proved closed before the service could have read the request (the first
//     write failed whole). For safe methods, and where the service honours the injected key, also when it closed without a byte of an answer.
//
// Repeats are drawn from a budget, a share of the requests (at least three a second), so that they cannot multiply the load.
//
// An idle connection is looked at before it is used again, unless it served another request within the last millisecond (a peek that does not
// block); one that the service has closed, or on which it spoke unasked, is thrown away. Of several endpoints the less loaded of two drawn at random is
// taken (Mitzenmacher, The Power of Two Choices).
//
// Active health checks ask each endpoint every so often, on a connection of its own. One that fails twice in a row is left out, and is back after one
// good answer (2xx). When all fail, all are used: then the check may be what is wrong, and a breaker sees the services themselves.
//
// # Bounds
//
// The head of an answer has at most 256 KiB; at most 128 connections an endpoint are kept idle, each for at most 55 seconds;
// an attempt, with the answer's body, takes at most the service's timeout.
package upstream

// Package upstream sends requests to the services: to which endpoint, on which connection, and
// whether again. The exchange itself is package http1's, or http2's for h2c endpoints, in the
// caller's goroutine, so that it is always known whether a byte of a request went out. Endpoints
// are reached by TCP, TLS or a unix socket.
//
// # Repeats
//
// net/http's Transport is not used: it resends a request with an Idempotency-Key by itself when a
// pooled connection turns out closed, and does not tell. Here a request is repeated only as the
// service's retries say:
//
//   - connect-failure: no connection came about; nothing was sent.
//   - reset-before-request: a pooled connection proved closed before the service could have read
//     the request (the first write failed whole). For safe methods, and where the service honours
//     the injected key, also when it closed without a byte of a response.
//
// Repeats are drawn from a budget, a share of the requests (at least three a second), so that they
// cannot multiply the load.
//
// # Endpoints and connections
//
// Of several endpoints the less loaded of two drawn at random is taken (Mitzenmacher, The Power of
// Two Choices). An idle connection is checked before it is used again, unless it served another
// request within the last millisecond (a peek that does not block); one that the service has
// closed, or on which it sent something unasked, is thrown away.
//
// Active health checks request each endpoint every so often, over HTTP/1.1 on a connection of their
// own. An endpoint that fails twice in a row is left out, and is back after one success (2xx). When
// all fail, all are used: then the check may be what is wrong, and a breaker sees the services
// themselves.
//
// # Changes in place
//
// The name is a service's identity; [Service.Configure] changes the rest, under requests. A request
// reads the settings once, when it begins, and ends with them; the endpoints it reads for each
// attempt. Invariants:
//
//   - An endpoint that stays is the same value: its load, its health and its connections go on. New
//     TLS replaces its connections, and has it checked at once; new settings of the checks replace
//     the goroutine that checks it.
//   - The new endpoints are published before those that go are marked as removed. So an attempt
//     that finds its endpoint removed finds another one, and once Configure has returned no attempt
//     is assigned to a removed endpoint.
//   - An attempt that was assigned before, and that sent nothing, moves to another endpoint. That
//     is no repeat.
//   - A pool that is closed closes what is idle; what is in use is closed at the end of its
//     exchange, and never under it.
//
// # Bounds
//
// The head of a response has at most 256 KiB; at most 128 connections an endpoint are kept idle,
// each for at most 55 seconds; an attempt takes at most the service's timeout until the head of the
// response, and then each silence within its body ([Response]). The budget holds at most 100 repeats.
//
// # Failure policy
//
// [Service.Send] says what is known of a failed request: nothing was sent ([ErrUnreachable]), it
// may have been executed ([ErrFailed], [ErrTimeout]), or the client is at fault ([ErrClientGone],
// [ErrClientBody]).
package upstream

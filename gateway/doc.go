// Package gateway is the data plane: listeners, routing, the filter chains, the services behind,
// reload and drain.
//
// How a request travels:
//
//	listen.go     what the listeners for clients share; PROXY protocol
//	http1, http2  the protocols, on the services' side too; message: what they share
//	dispatch.go   routing, for every protocol; dispatch_http2.go what HTTP/2 alone needs before it
//	normalize.go  one canonical path, a clean header, the client's address
//	router        the first route that matches
//	exchange.go   the route's chain, its target, the response; buffering.go its body
//	deadline.go   how long somebody waits; fallback.go what stands in for a refusal
//	targets.go    static responses, transactions; upstream: services
//
// engine.go builds all of that from one configuration as a value that nobody changes: apply.go
// builds a new engine, swaps the pointer and lets the old one finish. The chains come from the list
// in policy, and what outlives a reload (breakers, limiters, connections) from its pools.
// material.go reads the keys and certificates that a configuration names, stores.go opens what the
// process keeps state in. A failed build changes nothing.
//
// # What a reload cannot change
//
// The listeners but for their limits, the admin address, the store and the address for branch calls belong to the
// process. A new configuration that differs there is refused as a whole, with the setting's name;
// the old one stays in force.
//
// # What the process may take
//
// Every connection has an account in one budget (package budget), and each client that a trusted
// proxy names one for its request. dispatch.go takes a unit of
// requests in flight for as long as an exchange lasts, the bodies that are kept whole and the
// buffers that responses pass through are charged as they grow (message.Whole, buffering.go), the
// connections to services in package upstream. overload.go refuses what is beyond it. descriptors.go
// shares out the open files, memory.go has the collector keep to what is counted, package
// internalserver bounds the addresses that are not for clients.
//
// # Failure policy
//
// Store gone: as the limits and routes say; the gateway stays ready, once it has reached the store,
// unless admin.readyNeedsStore. Budget spent: 503 overloaded; a response for which there is no room
// is passed on and recorded as not replayable. Coordinator gone:
// transactions are refused before anything is submitted, the gateway stays ready. Service gone:
// 502, 504 or breaker-open, or what the route's fallback says. Time over before anything is sent: 504,
// and the key is free. Configuration broken: the old one stays. A panic is one 500, logged
// with its stack, and every permit is given back.
package gateway

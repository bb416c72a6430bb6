// Package gateway is the data plane: listeners, routing, the filter chains, the services behind, reload and drain.
//
// How a request travels:
//
//	front.go     what the listeners for clients have in common; PROXY protocol
//	http1        HTTP/1.x, on the services' side too; http2.go: HTTP/2. Nothing behind them knows which it was
//	edge.go      routing, whatever carried the request
//	entry.go     the client's message becomes the gateway's own: one canonical path, header cleaned, who asks
//	router       the first route that matches
//	exchange.go  the route's chain, its target, the response
//	upstream     the service; or transaction: the coordinator
//
// engine.go builds all of that from one configuration as a value that nobody changes: a reload builds a new engine, swaps
// the pointer and lets the old one finish. What must outlive a reload (breakers, limiters, connections, joined duplicates)
// is in shared.go. A failed build changes nothing.
//
// # What a reload cannot change
//
// The listeners, the admin address, the store and the address for branch calls belong to the process. A new configuration that differs
// there is refused as a whole, with the setting's name; the old one stays in force.
//
// # Failure policy
//
// Store gone: as the limits and routes say; the gateway is unready meanwhile. Coordinator gone: transactions are refused
// before anything is submitted, the gateway stays ready. Service gone: 502, 504 or breaker-open. Configuration broken: the old one stays. A
// panic is one 500, logged with its stack, and every permit is given back.
package gateway

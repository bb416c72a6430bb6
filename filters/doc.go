// Package filters says what a filter is and how a chain of them runs.
//
// One term for one thing, here and in the whole product:
//
//   - exchange: one request of a client and the response to it.
//   - filter: one policy that looks at an exchange in phases.
//   - chain: the filters of one route in their fixed order.
//   - reply: a response that the gateway makes itself; a refusal is a reply with a reason.
//   - reason: a stable code for a refusal, the same word in the problem body, the metric label, the
//     log and the docs.
//   - outcome: how the exchange ended for the service behind the gateway.
//   - principal: who asks, as the identity filter established it.
//   - attempt: one dispatch of a request to a service.
//
// # Phases
//
// A filter is phases and not an onion, so that the same policy runs in our own data plane and
// behind Envoy's external processor, where the phases of one exchange arrive as separate messages.
// Nothing in here, nor in a filter, knows the transport: no net/http server, no gRPC.
//
//	Request   in order, until a filter replies or all have let the exchange pass
//	Response  in reverse order, for every filter whose Request let the exchange pass
//	Done      in reverse order, exactly once for every filter whose Request was called, whatever happened
//
// A filter that replies forms its reply whole in Request; its own Response is not called for it.
// What a filter took (a permit, a lease, a token) it gives back in Done and nowhere else, because
// Done always comes: completed, refused, failed, client gone, panicked.
//
// # Failure policy
//
// A panic in a filter ends the exchange with one 500 (reason internal-error), is handed to the
// function that [NewChain] was given, with its stack, and the permits of all filters are given back
// by Done with the outcome [Panicked].
package filters

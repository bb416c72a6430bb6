// Package envoy carries requests that an Envoy holds: its external processing protocol (envoy.service.ext_proc.v3) as
// one more way in beside http1 and http2. A stream of ext_proc is one request of a client. Its [Request] gives the
// engine an exchange, and takes the response of the gateway or lets that of the service pass, so that the chains, their
// refusals and their records are the very ones of a gateway that serves clients itself.
//
// # The phases
//
// Envoy shows the head of the request and waits. What follows is asked for by mode_override when a filter needs it:
//
//	head of the request        always; a refusal or a replay ends it here with an ImmediateResponse
//	body of the request        BUFFERED, when a filter reads it (a fingerprint, a member), and never streamed: a
//	                           streamed body would come twice to the service with a retry (envoyproxy/envoy
//	                           #36119, #45470, #46095)
//	trailer of the request     when the client may send one: what only the gateway may say is taken out
//	head of the response       always, for the fields that the filters add and those that a service may not send
//	body of the response       BUFFERED_PARTIAL, where the response is recorded: it is in the store before the client
//	                           gets any of it. One that is longer than the route keeps, or than Envoy buffers, is
//	                           recorded as done and not replayable, and passed on
//
// So a refusal costs one message, a request without a body that is recorded three, one with a body four.
//
// # What an Envoy has to be told
//
// In the filter's configuration: processing_mode with request_header_mode and response_header_mode SEND and all
// else at its default; allow_mode_override; failure_mode_allow false; request_attributes [source.address,
// request.protocol]; response_attributes [response.code_details, response.flags,
// upstream.request_attempt_count], by which a response of the service is told from one that Envoy made itself;
// message_timeout above the longest wait of a route (whileInFlight.wait, overload.queue.wait) and of the store.
// In grpc_service.initial_metadata: x-sluice-peer with %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%, by
// which trust is asked; source.address stands in for it. In a route's overrides, grpc_initial_metadata:
// x-sluice-route with the name of the route, without which the first route that matches method and path is
// taken, as in a gateway; and x-sluice-retries with "unsent" where the route's retries repeat only what the
// service cannot have read (connect-failure, refused-stream, reset-before-request). The filter stands last
// before the router.
//
// # Failure policy
//
// A stream that ends before the request was let through: nothing was sent, the key is free. One that ends
// behind that and before the head of the response: the client has left, and what became of the request is not
// known: Envoy resets it, where a gateway would wait for the response and record it.
//
// What this process breaks off, since Envoy was silent or said what it must not, ends with an error, and Envoy
// refuses the request: behind a stream that ends well Envoy 1.40 sends the request on (measured), unclaimed.
//
// What the router of Envoy responds itself (503 UF, 504 UT) comes as a response too, as Envoy 1.40 does it, and
// the attributes tell: no connection, or none to spare, is upstream-unreachable and overloaded, and the key is
// free where no attempt before may have been sent; all else is unknown. An Envoy that does not send the
// attributes has every 5xx count as unknown. The client gets the gateway's own reply.
//
// An Envoy that sends a request on without showing the body that was asked for does not let modes be
// overridden: on its connection every request with a body is refused from then on. One that does not say who
// asks: no address, and what rests on it is refused with 400.
//
// # Bounds
//
// Streams under way: listen.maxInFlight, each with its client's share. Messages: listen.maxBody and 1 MiB. Bodies that
// wait: listen.maxBuffered, charged before they are asked for where their length is announced, else when they have
// come. The first message of a stream has to come within headerTimeout, a body within idleTimeout, a response within
// the time that the route or the claim leaves. Connections are probed every 30 s.
package envoy

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
// Repeats and hedges are drawn from one budget of the service, whatever route or transaction asks: a
// share of the requests of the second, at least three, so that they cannot multiply the load (Google,
// Site Reliability Engineering, ch. 21). Nothing of it is kept for later.
//
// # Hedges
//
// A safe request without a key and a body may have a second attempt beside its first (Dean and Barroso,
// The Tail at Scale, CACM 2013): a timer begins it, in the timer's goroutine, when the first one has had
// no response for as long as most recent requests took, or for a time that is written. The first one runs
// where any attempt does. The first head below 500 wins; the other attempt is cancelled, which costs its
// connection, or with HTTP/2 its stream, and the caller waits until it has ended, so that nothing of the
// request is read behind Send. Both together have the time of one attempt. To whoever counts exchanges
// both are one: its permit is held, and its latency measured, until the head that won. An attempt that was
// cancelled counts for its endpoint neither as a success nor as a failure, and for the latencies as one
// that took at least so long: else the percentile would sink below itself.
//
// # Deadlines
//
// Each attempt tells the service what is left: of the timeout, or of the exchange's deadline. Nothing is
// sent beyond that, and nothing is repeated that would leave less than the service takes as a rule, a
// moving average of the requests that have a deadline.
//
// # Endpoints
//
// Each address of a name is an endpoint of its own, with its health, load and connections; requests
// and health checks go to the same addresses. A name is looked up again and again; what it has no
// more is removed as by [Service.Configure], what it has in addition is used at once, and a lookup
// that fails leaves what is known. Both families count. Host, TLS's server name and the certificate
// are the name's. The first request waits for the first lookup, for the time of connecting.
//
// Of several endpoints the less loaded of two drawn at random is taken (Mitzenmacher, The Power of
// Two Choices). Where no connection to one address of a name comes about, the attempt goes on to the
// next one, within the time of connecting: the first has at most half of it, or 300 ms where that is
// more. The address is passed over from then on, while there is another one, until a connection
// comes about; behind each lookup one is made to find out. So an address family that leads nowhere
// costs one request a moment, and no request fails (RFC 8305 races both; a race would make
// connections that nobody uses).
//
// Active health checks request each endpoint every so often, on a connection of their own but for
// cleartext HTTP/2. An endpoint that fails twice in a row is left out, and is back after one success
// (2xx). Before the first success or the second failure it is neither: it is used, and nothing is
// reported. When all fail, all are used: then the check may be what is wrong, and a breaker sees the
// services themselves.
//
// # Outliers
//
// With Outlier an endpoint at which a number of attempts in a row have failed is ejected: it is passed
// over for a while. It is the consecutive_5xx of Envoy's outlier detection. A failure is no
// connection, a connection that breaks, a timeout, a response with a status of 500 or above, or one
// of gRPC that says that the service failed, in its head or behind its body. Nothing is what the
// client is at fault for (it left, or its own time was over), what this machine lacks, and a kept
// connection that proved closed. Each other response is a success and ends the row. A body that breaks
// behind its head counts for the breaker and not here.
//
// The nth ejection in a row lasts n times Eject, at most ten times, and up to a fifth longer by
// chance; each Eject of use without another one takes one back. No more than the share Max of the
// endpoints are ejected at once, and never the last one that is not passed over for another reason;
// should that one fail its check later, those that are ejected are used. Where all that are not ejected
// fail so often that they would be, those that are ejected come back in their place, once a second at
// most, unless they are known to be dead: an endpoint that was ejected is better than one that is gone.
// Where fewer endpoints are left, or the share becomes smaller, those with the least time left come
// back. Health checks go on beside it, and neither ends what the other found: an endpoint that passes
// its check and fails its requests is what this is for. A new address of a name begins clean, also
// one that was there before. The timers of the ejections end with the service.
//
// # Connections
//
// An idle connection is checked before it is used again, unless it served another request within
// the last millisecond (a peek that does not block); one that the service has closed, or on which it
// sent something unasked, is thrown away. One that is older than it becomes, up to a fifth less by
// chance, ends behind what it carries; what a service says in Keep-Alive counts where it is shorter,
// less a second, or less half of it. Which one is used again is the one that was used last on this
// processor, else one of another processor's; to give way to others it is the one that has been idle
// longest of all.
//
// Cleartext HTTP/2 is known beforehand; over TLS the service chooses (RFC 7301), endpoint by
// endpoint, and each handshake may change that. A request that asks for another protocol goes by
// HTTP/1.1, and where the service has only HTTP/2 as one that does not ask. Streams go to the
// connection with the fewest; when none has room, as by SETTINGS_MAX_CONCURRENT_STREAMS or beyond
// 256 streams, another one is made. A new one is used when the service's SETTINGS are there: by then
// it is known how many streams it takes, and that it speaks HTTP/2.
//
// Each connection is counted in the budget of descriptors until it is closed: for the client whose
// request it was made for as long as that uses it, else for the gateway. An idle one that is taken
// is counted for the client only while less than half of the descriptors are left: before that the
// bound of the requests under way is what shares them out. When there are few, idle connections are
// closed first, of all services; then requests are refused, before anything is sent.
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
// The head of a response has at most 256 KiB; a name has at most 256 addresses. How many connections
// there are is bounded by the requests under way and the budget of descriptors, how long they are
// kept by the settings. What is known of latencies for hedges takes 5 KiB for each service that has them.
//
// # Failure policy
//
// [Service.Send] says what is known of a failed request: nothing was sent ([ErrUnreachable]), it
// may have been executed ([ErrFailed], [ErrTimeout]), the client is at fault ([ErrClientGone],
// [ErrClientBody]), its time was over ([ErrExpired]: nothing was sent; [ErrDeadline]: so early that it
// says nothing of the service), or the gateway is at fault ([ErrOverloaded]: nothing was sent, and it is
// no failure of the service). What fails for want of this machine's descriptors or ports is an ErrOverloaded too, and
// a health check that fails so is none.
package upstream

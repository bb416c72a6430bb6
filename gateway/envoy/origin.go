package envoy

import (
	"google.golang.org/grpc/metadata"
)

// Origin is whose response Envoy shows: its service's, or its own, and what it says of the request then.
type Origin uint8

const (
	// FromService: the service made the response.
	FromService Origin = iota
	// Unreachable: no connection to the service came about, and nothing was sent.
	Unreachable
	// Overflowed: the circuit breaker of Envoy let nothing through.
	Overflowed
	// TimedOut: the request was sent, and no response came in time.
	TimedOut
	// Broken: the request may have been sent, and no response came.
	Broken
)

// Flags of a response (%RESPONSE_FLAGS%), by their bits: CoreResponseFlag in envoy/stream_info/stream_info.h. New ones
// are appended there.
const (
	noHealthyUpstream         = 1 << 1  // UH
	upstreamRequestTimeout    = 1 << 2  // UT
	localReset                = 1 << 3  // LR
	upstreamRemoteReset       = 1 << 4  // UR
	upstreamConnectionFailure = 1 << 5  // UF
	upstreamTermination       = 1 << 6  // UC
	upstreamOverflow          = 1 << 7  // UO
	noRouteFound              = 1 << 8  // NR
	streamIdleTimeout         = 1 << 16 // SI
	maxStreamDuration         = 1 << 19 // UMSDR
	durationTimeout           = 1 << 22 // DT
	upstreamProtocolError     = 1 << 23 // UPE
	noClusterFound            = 1 << 24 // NC
	overloadManager           = 1 << 25 // OM
	dnsFailed                 = 1 << 26 // DF
	dropOverload              = 1 << 27 // DO

	maybeSent = upstreamRequestTimeout | localReset | upstreamRemoteReset | upstreamTermination | streamIdleTimeout |
		maxStreamDuration | durationTimeout | upstreamProtocolError
	notSent = noHealthyUpstream | upstreamConnectionFailure | noRouteFound | noClusterFound | dnsFailed
)

// viaUpstream is what Envoy says of a response of the service (%RESPONSE_CODE_DETAILS%).
const viaUpstream = "via_upstream"

// RetriesKey, with the value "unsent", says that the route's retries repeat only what the service cannot have read.
// It stands in the head of a stream, as [RouteKey] does.
const RetriesKey = "x-sluice-retries"

// originOf reads whose response it is. Where an Envoy does not say, and the status is one that its router may have made
// itself, the response counts as one of which nothing is known: a key that was sent must not become free by it.
func (r *Request) originOf(a *attributes, status int) Origin {
	switch a.details {
	case viaUpstream:
		return FromService
	case "":
		if status < 500 {
			return FromService // no router makes such a one
		}
		r.server.warn(r.server.noOrigin, "Envoy does not say whose a response is: response_attributes needs "+
			"response.code_details, response.flags and upstream.request_attempt_count; an error counts as a request "+
			"without a response", "route", r.Exchange.Route, "status", status)
		return Broken
	}
	flags := a.flags
	switch unsent := flags&maybeSent == 0 && r.sentOnce(a); {
	case flags&(upstreamOverflow|overloadManager|dropOverload) != 0 && unsent:
		return Overflowed
	case flags&notSent != 0 && unsent:
		return Unreachable
	case flags&(upstreamRequestTimeout|durationTimeout) != 0:
		return TimedOut
	}
	return Broken
}

// sentOnce reports whether what Envoy says of the last attempt holds for all: there was one, or the ones before it were
// not sent either.
func (r *Request) sentOnce(a *attributes) bool {
	if 0 <= a.attempts && a.attempts <= 1 {
		return true
	}
	v := metadata.ValueFromIncomingContext(r.stream.Context(), RetriesKey)
	return len(v) > 0 && v[0] == "unsent"
}

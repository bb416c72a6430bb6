package envoy

import "testing"

// A request counts as not sent only where nothing that Envoy says of it speaks for the contrary.
func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		flags    uint64
		attempts float64
		want     Origin
	}{
		{upstreamConnectionFailure, 1, Unreachable}, {noHealthyUpstream, 0, Unreachable},
		{upstreamOverflow, 1, Overflowed},
		{upstreamRequestTimeout, 1, TimedOut}, {upstreamTermination, 1, Broken}, {0, 1, Broken},
		{upstreamConnectionFailure | upstreamRequestTimeout, 1, TimedOut},
		{upstreamConnectionFailure | upstreamTermination, 1, Broken}, {upstreamOverflow | localReset, 1, Broken},
		{noClusterFound | durationTimeout, 1, TimedOut},
	} {
		a := attributes{details: "upstream_reset_before_response_started", flags: c.flags, attempts: c.attempts}
		if got := new(Request).originOf(&a, 503); got != c.want {
			t.Errorf("flags %b: %d, want %d", c.flags, got, c.want)
		}
	}
}

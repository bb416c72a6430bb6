package idempotency_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/weighted"
)

// TestRecordWithoutAService: versions before noted no service, as a route had one. On a route that has got several
// nobody knows by now which of them has the request, so none is asked and none gets it again.
func TestRecordWithoutAService(t *testing.T) {
	t.Parallel()
	retry, probe := defaults(), defaults()
	retry.Retry, probe.Probe = true, &idempotency.Probe{}
	for name, s := range map[string]idempotency.Settings{"retry": retry, "probe": probe} {
		b := newBench(t, s)
		lost := response{fails: filters.NoResponse, reason: filters.UpstreamFailed}
		b.want(name+": the first attempt", b.do(request("k", "{}"), lost), 502, filters.UpstreamFailed, true)
		one := b.chain
		b.probe = func(*filters.Exchange, int) (idempotency.Response, bool) {
			t.Errorf("%s: a service was asked that may not be the one", name)
			return idempotency.Response{}, false
		}
		b.chain = b.forked("order", "order-canary")
		for range 2 {
			again := b.do(request("k", "{}"), created)
			b.want(name+": with several services", again, 409, filters.OutcomeUnknown, false)
		}
		b.want(name+": another key", b.do(request("l", "{}"), created), 201, "", true)
		if s.Retry {
			b.chain = one
			again := b.do(request("k", "{}"), created)
			b.want("with one service again", again, 201, "", true)
			if again.attempt != 2 {
				t.Errorf("attempt %d, want 2", again.attempt)
			}
		}
	}
}

// forked returns a chain of the filter that leads to several services.
func (b *bench) forked(services ...string) *filters.Chain {
	var list []weighted.Choice
	var ends []*filters.End
	for _, name := range services {
		end, err := filters.NewEnd(name)
		if err != nil {
			b.t.Fatal(err)
		}
		list, ends = append(list, weighted.Choice{Service: name, Weight: 1}), append(ends, end)
	}
	chain, err := filters.NewChain(func(_ *filters.Exchange, f string, v any, stack []byte) {
		b.t.Errorf("panic in %s: %v\n%s", f, v, stack)
	}, weighted.NewFilter(list), b.filter)
	if err == nil {
		err = chain.Fork(ends...)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return chain
}

package idempotency

import (
	"fmt"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

// TestCallsSpread: requests that differ in their keys alone, of one owner and with one body, are in different shards.
func TestCallsSpread(t *testing.T) {
	t.Parallel()
	calls, s := NewCalls(), &Settings{}
	defer calls.Close()
	x := &filters.Exchange{Route: "create-order", Principal: "ann"}
	const keys = 16_000
	for i := range keys {
		id, err := s.nameOf(x, fmt.Sprint("key-", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, lead := calls.join(&callKey{id: id}); lead == nil {
			t.Fatalf("key %d joined another one", i)
		}
	}
	const together = 16 // shards, so that chance makes less of a difference
	for i := 0; i < callShards; i += together {
		n := 0
		for j := range together {
			n += calls.shards[i+j].n
		}
		if n < keys/callShards*together/2 || n > keys/callShards*together*3/2 {
			t.Errorf("shards %d to %d have %d of %d calls", i, i+together-1, n, keys)
		}
	}
}

// TestCallsKeepNoCall: what was in a shard before it had more chains is not kept when it has ended.
func TestCallsKeepNoCall(t *testing.T) {
	t.Parallel()
	calls := NewCalls()
	defer calls.Close()
	var leads []*Handle
	s := &calls.shards[0]
	for len(s.chains) == 1 {
		_, lead := calls.join(&callKey{fingerprint: [32]byte{byte(len(leads))}})
		leads = append(leads, lead)
	}
	for _, lead := range leads {
		calls.finish(&lead.call, &result{again: true})
	}
	if s.n != 0 || s.only[0] != nil {
		t.Errorf("%d calls are left, and %p", s.n, s.only[0])
	}
}

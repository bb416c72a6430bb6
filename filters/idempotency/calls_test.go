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
	for i := range calls.shards {
		if n := calls.shards[i].n; n < keys/callShards/2 || n > keys/callShards*3/2 {
			t.Errorf("shard %d has %d of %d calls", i, n, keys)
		}
	}
}

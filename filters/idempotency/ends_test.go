package idempotency_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// TestEndsAreTold: each step that settles a record is told once, also that it came too late, and nothing else.
func TestEndsAreTold(t *testing.T) {
	var ends idempotency.Ends
	store := ends.Observe(idempotencymemory.New(time.Now))
	var told []idempotency.End
	ends.Listen(func(e idempotency.End) { told = append(told, e) })
	ctx := context.Background()
	claim := func(id string, token uint64) {
		t.Helper()
		c := idempotency.ClaimRequest{ID: id, Token: token, Lease: time.Minute, Cap: time.Minute, TTL: time.Minute}
		if _, claimed, err := store.Claim(ctx, c); !claimed || err != nil {
			t.Fatal(claimed, err)
		}
	}
	change := func(id string, token uint64, op idempotency.Op, ok bool) {
		t.Helper()
		ch := idempotency.Change{Op: op, Response: []byte("r"), Lease: time.Minute, GID: "g"}
		if err := store.Change(ctx, id, token, ch); (err == nil) != ok {
			t.Fatal(err)
		}
	}
	claim("a", 1)
	change("a", 1, idempotency.Renew, true)
	change("a", 2, idempotency.Free, false)
	change("a", 1, idempotency.Free, true)
	claim("b", 2)
	change("b", 2, idempotency.MarkUnknown, true)
	claim("c", 3)
	change("c", 3, idempotency.Delegate, true)
	change("c", 3, idempotency.Finish, true)
	if ok, err := store.Resolve(ctx, "b", nil, false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := store.Resolve(ctx, "c", []byte("other"), false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := store.Resolve(ctx, "none", nil, false); ok || err != nil {
		t.Fatal(ok, err)
	}
	want := []idempotency.End{
		{ID: "a", Token: 2, Op: idempotency.Free, Lost: true}, {ID: "a", Token: 1, Op: idempotency.Free},
		{ID: "b", Token: 2, Op: idempotency.MarkUnknown}, {ID: "c", Token: 3, Op: idempotency.Finish},
		{ID: "b", Op: idempotency.Free}, {ID: "c", Op: idempotency.Finish},
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

package ratelimit_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/filtertest"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitlocal"
	"github.com/sluice-gateway/sluice/filters/ref"
)

func serviceFilter(bursts ...int) *ratelimit.Filter {
	var rules []ratelimit.Rule
	for i, burst := range bursts {
		limit := ratelimit.Limit{Name: string(rune('a' + i)), Count: 1, Period: time.Hour, Burst: burst}
		rules = append(rules, ratelimit.Rule{Limit: limit, Limiter: ratelimitlocal.New(limit, 10),
			Per: []ref.Ref{{Root: ref.Principal}}})
	}
	return ratelimit.NewService("stock", rules, nil)
}

func request(call filters.Call, r *filters.Reservation) *filters.Exchange {
	x := new(filters.Exchange)
	x.Begin(context.Background(), nil)
	x.Principal, x.Received, x.Call, x.Reservation = "ann", time.Now(), call, r
	return x
}

func passes(f *ratelimit.Filter, x *filters.Exchange) bool {
	var s filters.Slot
	r := f.Request(x, &s)
	f.Done(x, &s, filters.Refused)
	return r == nil
}

func TestServiceFilterConforms(t *testing.T) {
	filtertest.Conform(t, func(*testing.T) (filters.Filter, func(*filters.Exchange)) {
		return serviceFilter(1 << 20), func(*filters.Exchange) {}
	})
}

// TestReserve: tokens that were taken at the begin of a transaction are those of its call.
func TestReserve(t *testing.T) {
	f := serviceFilter(5, 2)
	chain, err := filters.NewChain(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	reserve := func() (*filters.Reservation, *filters.Reply) {
		list, reply := filters.Reserve(request(filters.ClientCall, nil), []*filters.Chain{chain})
		if reply != nil {
			return nil, reply
		}
		return list[0], nil
	}
	first, _ := reserve()
	second, _ := reserve()
	if _, reply := reserve(); reply == nil || reply.Status != 429 || reply.Header.Get("Retry-After") == "" {
		t.Fatalf("a third token of two: %+v", reply)
	}
	if passes(f, request(filters.ClientCall, nil)) || passes(f, request(filters.DoCall, nil)) {
		t.Error("a request got a token that is another one's")
	}
	if !passes(f, request(filters.DoCall, first)) {
		t.Error("the call whose token was taken is refused")
	}
	if passes(f, request(filters.DoCall, first)) {
		t.Error("a token served twice")
	}
	second.Return()
	second.Return()
	if !passes(f, request(filters.DoCall, nil)) || passes(f, request(filters.DoCall, nil)) {
		t.Error("a token that was given back is there once")
	}
	if !passes(f, request(filters.UndoCall, nil)) {
		t.Error("an undo is refused")
	}
}

func TestReserveRefunds(t *testing.T) {
	f := serviceFilter(1, 1)
	chain, err := filters.NewChain(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	full := serviceFilter(1)
	if !passes(full, request(filters.ClientCall, nil)) {
		t.Fatal("no token")
	}
	none, err := filters.NewChain(nil, full)
	if err != nil {
		t.Fatal(err)
	}
	if _, reply := filters.Reserve(request(filters.ClientCall, nil), []*filters.Chain{chain, none}); reply == nil {
		t.Fatal("a service without a token was passed over")
	}
	if !passes(f, request(filters.ClientCall, nil)) {
		t.Error("the tokens of the other service are spent")
	}
}

package idempotency_test

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
)

// What the filter costs a request on the memory store: the gateway's share of a keyed POST. Where records expire, time
// goes on by 20 µs a request, and a quarter of a million live at a time.
func BenchmarkKeyed(b *testing.B) {
	for _, c := range []struct {
		name            string
		max             int
		replay, expires bool
	}{
		{"fresh", 0, false, false}, {"fresh, counted", 1 << 30, false, false}, {"expiring", 0, false, true},
		{"replay", 0, true, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := defaults()
			s.MaxOpenKeys = c.max
			i, now, clock := 0, time.Now(), (func() time.Time)(nil)
			if c.expires {
				s.TTL = 5 * time.Second
				clock = func() time.Time { return now.Add(time.Duration(i) * 20 * time.Microsecond) }
			}
			discard := &tally{}
			f := idempotency.New(s, idempotency.Options{
				Store: idempotencymemory.New(clock), Calls: idempotency.NewCalls(),
				Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
				Metrics: idempotency.Metrics{
					Claims: discard, Replays: discard, Joins: discard, Conflicts: discard, Mismatches: discard,
					Unknown: discard, Lost: discard, Failures: discard,
					TooMany: discard, Answered: discard, Freed: discard, Settled: discard, Undecided: discard,
					Untrusted: discard,
				},
			})
			chain, err := filters.NewChain(func(*filters.Exchange, string, any, []byte) {}, f)
			if err != nil {
				b.Fatal(err)
			}
			body := []byte(`{"sku":"SKU-1","note":"` + strings.Repeat("n", 487) + `"}`)
			response := []byte(strings.Repeat("a", 200))
			x := new(filters.Exchange)
			load := func(int64) ([]byte, error) { return body, nil }
			b.ReportAllocs()
			for b.Loop() {
				if !c.replay {
					i++
				}
				x.Begin(context.Background(), load)
				x.Method, x.Path, x.Route, x.Principal = "POST", "/v1/orders", "create-order", "ip:192.0.2.7"
				x.Header.Add("Idempotency-Key", "8e03978e-40d5-4f9b-a7c2-"+strconv.Itoa(i))
				if reply, _ := chain.Request(x); reply != nil {
					x.SetReply(reply)
				} else {
					x.Dispatched = true
					x.Response = filters.Response{Status: 201, Body: response, Whole: true,
						Header: append(x.Response.Header[:0],
							filters.Field{Name: "Content-Type", Value: "application/json"}, filters.Field{Name: "Date",
								Value: "Fri, 20 Nov 2026 10:00:00 GMT"})}
				}
				chain.Response(x)
				chain.Done(x, filters.Completed)
			}
		})
	}
}

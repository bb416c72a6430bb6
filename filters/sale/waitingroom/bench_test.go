package waitingroom_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// BenchmarkEnter: one with the ticket of an admission, a program and a browser that wait.
func BenchmarkEnter(b *testing.B) {
	enter := func(rate float64, x *filters.Exchange, want bool) func(b *testing.B) {
		return func(b *testing.B) {
			f := newFleet(1, settings(rate))
			for i := range 3 {
				f.rooms[0].Enter(time.Now(), exchange(fmt.Sprint("first-", i), ""))
			}
			until, reply := f.rooms[0].Enter(time.Now(), x)
			if (reply == nil) != want {
				b.Fatal(reply)
			}
			if reply == nil {
				f.rooms[0].Stamp(x, &x.Response.Header, until)
				x.Ticket = x.Response.Header.Get("Sluice-Ticket")
			} else {
				x.Ticket = reply.Header.Get("Sluice-Ticket")
			}
			b.ReportAllocs()
			for b.Loop() {
				f.rooms[0].Enter(time.Now(), x)
			}
		}
	}
	browser := exchange("cid", "")
	browser.Header.Add("Accept", "text/html")
	b.Run("admitted", enter(1e9, exchange("ann", ""), true))
	b.Run("program", enter(0.001, exchange("bob", ""), false))
	b.Run("browser", enter(0.001, browser, false))
}

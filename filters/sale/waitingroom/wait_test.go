package waitingroom_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWaitAdmitsNobody: who only looks is told its place where it has to wait, and takes no admission from those who
// come in, however often it looks.
func TestWaitAdmitsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 20
		f := newFleet(1, settings(rate))
		room := f.rooms[0]
		enter := func(principal string) bool {
			until, reply := room.Enter(time.Now(), exchange(principal, ""))
			return reply == nil && until != 0
		}
		if !enter("first") { // the room knows the rate from now on
			t.Fatal("the first one has to wait")
		}
		for i := range 20 * rate { // who would be admitted looks for a second
			if room.Wait(time.Now(), exchange(fmt.Sprint("looks-", i), "")) != nil {
				t.Fatal("one that would be admitted has to wait")
			}
			time.Sleep(time.Second / (20 * rate))
		}
		if !enter("second") {
			t.Error("those who look have taken the admissions")
		}
		var waits *buyer
		for i := 0; waits == nil; i++ {
			b := &buyer{principal: fmt.Sprint("comes-", i)}
			if b.once(t, room) > 0 {
				waits = b
			}
		}
		before := f.store.calls.Load()
		for range 100 { // it is told its place at each poll, which is kept
			reply := room.Wait(time.Now(), exchange(waits.principal, waits.ticket))
			if reply == nil || reply.Status != 202 ||
				!strings.Contains(string(reply.Body), "Send the same Idempotency-Key each time") {
				t.Fatalf("%+v", reply)
			}
			if place, _ := number(reply.Body, "place"); place != waits.places[0] {
				t.Errorf("place %d after %d", place, waits.places[0])
			}
		}
		if n := f.store.calls.Load() - before; n > 2 {
			t.Errorf("100 polls took %d calls of the store", n)
		}
		time.Sleep(2 * time.Second)
		for range 100 {
			if room.Wait(time.Now(), exchange(waits.principal, waits.ticket)) != nil {
				t.Fatal("one that was called has to wait")
			}
		}
		if waits.once(t, room) != 0 {
			t.Error("one that was called and has looked is not admitted")
		}
		if room.Wait(time.Now(), exchange(waits.principal, waits.ticket)) != nil {
			t.Error("one that was admitted has to wait")
		}
		time.Sleep(time.Minute) // the last exchange is over
	})
}

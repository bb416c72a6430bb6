package saleredis

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

// testBooksThatWereLost are written anew by what the parts say: nothing is sold twice.
func testBooksThatWereLost(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := newShop(t, client, prefix)
	const total = 300
	for i := range 100 {
		if out, err := s.sound.Take(ctx, buy(fmt.Sprint("a", i), 1, total)); err != nil || out.Verdict != sale.Taken {
			t.Fatal(out, err)
		}
	}
	_, of := s.sound.divided.find(item)
	c := s.sound.newCall(of)
	books := string(c.Buffer[:len(c.Buffer)/2-len(":ids")/2])
	c.Free()
	if n, err := client.Universal().Del(ctx, books).Result(); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	sold := 100
	for i := range 2 * total {
		out, err := s.gateways[i%2].Take(ctx, buy(fmt.Sprint("b", i), 1, total))
		if err != nil {
			t.Fatal(err)
		}
		if out.Verdict == sale.Taken {
			sold++
		}
	}
	if sold != total {
		t.Errorf("%d were sold of %d", sold, total)
	}
}

// testUnitThatAPartLost: units that are stored again when their purchases end count as taken, though their part was not
// granted as many.
func testUnitThatAPartLost(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := newShop(t, client, prefix)
	const total, lost, back = 40, 3, 5
	for i := range total {
		if out, err := s.sound.Take(ctx, buy(fmt.Sprint("a", i), 1, total)); err != nil || out.Verdict != sale.Taken {
			t.Fatal(out, err)
		}
	}
	d, _ := s.sound.divided.find(item)
	for i := range lost {
		u := unitOf(buy(fmt.Sprint("lost", i), 1, total))
		u.Principal = sale.PrincipalDigest("a0")
		if _, ok, err := s.sound.Settle(ctx, item, u, sale.Confirm, true); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	returned := 0
	for i := 0; returned < back; i++ {
		r := buy(fmt.Sprint("a", i), 1, total)
		if d.partOf(r.Principal) != d.partOf(sale.PrincipalDigest("a0")) { // elsewhere
			s.settleSurely(r, sale.Free)
			returned++
		}
	}
	sold := 0
	for i := range 10 {
		out, err := s.sound.Take(ctx, buy(fmt.Sprint("b", i), 1, total))
		if err != nil {
			t.Fatal(err)
		}
		if out.Verdict == sale.Taken {
			sold++
		}
	}
	if c := s.sum(); sold != back-lost || c.Taken != total {
		t.Errorf("%d were sold after %d that were lost and %d that came back: %+v", sold, lost, back, c)
	}
}

// testTotalChangesOnlyBetweenGrants: while a part may still be told of a grant under one total, no other is in force.
func testTotalChangesOnlyBetweenGrants(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := newShop(t, client, prefix).sound
	const total, lower = 400, 100
	if out, err := s.Take(ctx, buy("a", 1, total)); err != nil || out.Verdict != sale.Taken {
		t.Fatal(out, err)
	}
	d, _ := s.divided.find(item)
	a := ask{item: item, part: 0, want: 1, total: lower}
	reply, err := s.ask(ctx, d, &a)
	if err != nil || reply.what == granted {
		t.Fatalf("a lower total is in force while parts take by a higher one: %+v, %v", reply, err)
	}
	late, err := s.ask(ctx, d, &ask{item: item, part: 1, want: 50, total: total})
	if err != nil || late.what != granted || late.grant.under != total {
		t.Fatal(late, err)
	}
	if a.reports, err = s.recallAll(ctx, d, &a, reply.granted); err != nil {
		t.Fatal(err)
	}
	if reply, err = s.ask(ctx, d, &a); err != nil || reply.what == granted {
		t.Fatalf("a lower total is in force while a part is yet to be told of a grant: %+v, %v", reply, err)
	}
	if a.reports, err = s.recallAll(ctx, d, &a, reply.granted); err != nil {
		t.Fatal(err)
	}
	if reply, err = s.ask(ctx, d, &a); err != nil || reply.what != granted || reply.grant.under != lower {
		t.Fatalf("when no part takes: %+v, %v", reply, err)
	}
	credit := client.Universal().HGet(ctx, d.parts[1], "q").Val()
	c := d.newCall(1)
	c.Buffer = late.grant.append(c.Buffer)
	if _, err := s.run(ctx, "grant", item, adopt, c); err != nil {
		t.Fatal(err)
	}
	if now := client.Universal().HGet(ctx, d.parts[1], "q").Val(); now != credit {
		t.Errorf("by a grant that it gave back the part takes again: %x, was %x", now, credit)
	}
	reports, err := s.recallAll(ctx, d, &a, reply.granted)
	if err != nil || reports[1].back != reports[1].granted-reports[1].taken {
		t.Fatal(reports, err)
	}
	if out, err := s.Take(ctx, buy("b", lower, lower)); err != nil || out.Verdict != sale.SoldOut {
		t.Errorf("more than the lower total: %+v, %v", out, err)
	}
}

// testOneStepATaking: nearly every taking is one step of one part, and none of the books.
func testOneStepATaking(t *testing.T, client *redisx.Client, prefix string) {
	const takings = 1000
	calls := 0
	counting := &faulty{server: client, killed: func() (bool, bool) { calls++; return false, false }}
	s := newStore(counting, Options{Prefix: prefix, Divide: 1})
	for i := range takings {
		out, err := s.Take(context.Background(), buy(fmt.Sprint("a", i), 1, DivideFrom))
		if err != nil || out.Verdict != sale.Taken {
			t.Fatal(out, err)
		}
	}
	if calls > takings+takings/10 {
		t.Errorf("%d takings took %d steps", takings, calls)
	}
}

// TestServerOfAPartGone: the other parts sell what they have, sold out is not told, and nothing is lost.
func TestServerOfAPartGone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cluster := redistest.RunCluster(t, 3, "--appendonly", "yes", "--appendfsync", "always")
	client := redisx.Open(redisx.Options{Addresses: cluster.Addrs(), Cluster: true, Timeout: time.Second})
	defer client.Close()
	s := New(client, Options{Prefix: "s:", Divide: 1})
	const total = 400
	sold := map[string]bool{}
	attempt := func(i int) (failed bool) {
		r := buy(fmt.Sprint("b", i), 1, total)
		out, err := s.Take(ctx, r)
		if err == nil && out.Verdict == sale.Taken {
			sold[r.ID] = true
		} else if err == nil && len(sold) < total/2 {
			t.Fatalf("it is told that it is sold out after %d", len(sold))
		}
		return err != nil
	}
	for i := range 100 {
		if attempt(i) {
			t.Fatal("a taking failed")
		}
	}
	cluster.Nodes[2].Kill()
	failed, before := 0, len(sold)
	for i := 100; i < 130; i++ {
		if attempt(i) {
			failed++
		}
	}
	if failed == 0 || len(sold) == before {
		t.Errorf("without a server %d takings failed and %d passed", failed, len(sold)-before)
	}
	s, before = New(client, Options{Prefix: "s:", Divide: 1}), len(sold) // a gateway that starts now
	for i := 200; i < 230; i++ {
		attempt(i)
	}
	if _, of := s.divided.find(item); s.booksServer(of) != 2 && len(sold) == before {
		t.Error("a gateway that started without a server sells nothing")
	}
	cluster.Nodes[2].Restart()
	for deadline := time.Now().Add(waitLimit); attempt(130); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	for i := 100; i < 2*total; i++ { // the failed ones again
		for deadline := time.Now().Add(waitLimit); attempt(i); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not go on")
			}
		}
	}
	if len(sold) != total {
		t.Errorf("%d were sold of %d", len(sold), total)
	}
}

// testGatewayBeforeParts: one of the version before, which does not know of parts, fails on a divided item and changes
// nothing of it. One of a later version that divides otherwise is refused with the reason.
func testGatewayBeforeParts(t *testing.T, client *redisx.Client, prefix string) {
	ctx := context.Background()
	s := New(client, Options{Prefix: prefix, Divide: 1})
	for i := range 20 {
		if out, err := s.Take(ctx, buy(fmt.Sprint("a", i), 1, 100)); err != nil || out.Verdict != sale.Taken {
			t.Fatal(out, err)
		}
	}
	_, of := s.divided.find(item)
	for name, arg := range map[string]func(b []byte) []byte{
		"take": func(b []byte) []byte {
			r := buy("a1", 1, 100)
			return append(appendTake(b, 0, &r, grantOfPart{})[1:69], r.ID...)
		},
		"settle":  func(b []byte) []byte { return append(append(b, 1), make([]byte, 60)...) },
		"changes": func(b []byte) []byte { return appendInt(binary.BigEndian.AppendUint64(b, 0), 10) },
	} {
		text, err := earlier.ReadFile("testdata/before-parts-" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		c := s.newCall(of)
		before := s.state(t, client, string(c.Buffer[:len(c.Buffer)/2-len(":ids")/2]))
		c.Buffer = append(c.Buffer, arg(nil)...)
		reply, err := client.Run(ctx, redisx.NewScript(string(text)), c, 2)
		if err == nil || !strings.Contains(err.Error(), "a nil value") && !strings.Contains(err.Error(), "got nil") {
			t.Errorf("%s of the version before: %q, %v", name, reply, err)
		}
		t.Log(err)
		c = s.newCall(of)
		if after := s.state(t, client, string(c.Buffer[:len(c.Buffer)/2-len(":ids")/2])); after != before {
			t.Errorf("%s of the version before changed %s to %s", name, before, after)
		}
	}
	c := s.newCall(of)
	books := string(c.Buffer[:len(c.Buffer)/2-len(":ids")/2])
	if err := client.Universal().HSet(ctx, books, "s", "\x02\x08"+strings.Repeat("\x00", 200)).Err(); err != nil {
		t.Fatal(err)
	}
	other := New(client, Options{Prefix: prefix, Divide: 1})
	if _, err := other.Take(ctx, buy("b", 1, 100)); err == nil || !strings.Contains(err.Error(), "update it") {
		t.Errorf("an item in a later form: %v", err)
	}
}

func (s *Store) state(t *testing.T, client *redisx.Client, key string) string {
	all, err := client.Universal().HGetAll(context.Background(), key).Result()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	return fmt.Sprint(all)
}

// booksServer returns which of three servers with equal ranges of slots has the books of an item.
func (s *Store) booksServer(of digest) int {
	c := s.newCall(of)
	defer c.Free()
	tag := string(c.Buffer[len(s.prefix) : len(s.prefix)+24])
	return int(crc16(tag)) % slots * 3 / slots
}

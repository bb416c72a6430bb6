package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

func testResolve(t *testing.T, h Harness) {
	ctx := background(t)
	if ok, err := h.Store.Resolve(ctx, newID(), response(200), true); err != nil || ok {
		t.Errorf("Resolve of no record: %v, %v", ok, err)
	}
	c := request(newID())
	mustClaim(t, h.Store, c)
	if ok, err := h.Store.Resolve(ctx, c.ID, nil, false); !errors.Is(err, idempotency.ErrBusy) || ok {
		t.Errorf("Resolve while its holder runs: %v, %v", ok, err)
	}
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	if ok, err := h.Store.Resolve(ctx, c.ID, response(202), false); err != nil || !ok {
		t.Fatalf("Resolve: %v, %v", ok, err)
	}
	rec := mustNotClaim(t, h.Store, request(c.ID), idempotency.Answered)
	if !bytes.Equal(rec.Response, response(202)) || rec.Token == c.Token {
		t.Errorf("resolved record %+v", rec)
	}
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(500)})
	if ok, err := h.Store.Resolve(ctx, c.ID, nil, false); err != nil || !ok {
		t.Fatalf("Resolve as free: %v, %v", ok, err)
	}
	mustBeGone(t, h.Store, c.ID)
	if ok, err := h.Store.Resolve(ctx, c.ID, nil, false); err != nil || ok {
		t.Errorf("Resolve of a free key: %v, %v", ok, err)
	}
	c = request(newID())
	c.NotDispatched, c.Lease = true, h.short()
	mustClaim(t, h.Store, c)
	h.lapse()
	if ok, err := h.Store.Resolve(ctx, c.ID, response(200), true); err != nil || ok {
		t.Errorf("Resolve of a lapsed claim with nothing sent: %v, %v", ok, err)
	}
}

func testList(t *testing.T, h Harness) {
	ctx := background(t)
	const n = 40
	for i := range n {
		c := request(newID())
		c.Principal, c.ClientKey = []string{"anna", "bert"}[i%2], fmt.Sprintf("key-%d", i)
		if i%4 == 0 {
			c.Route = "checkout"
		}
		if i%10 == 9 {
			c.Lease = h.short()
		}
		mustClaim(t, h.Store, c)
		if i%4 == 1 {
			mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
		}
	}
	lapsing := request(newID())
	lapsing.NotDispatched, lapsing.Lease = true, h.short()
	mustClaim(t, h.Store, lapsing)
	if _, err := h.Store.Secret(ctx, "beside-the-records", 16); err != nil {
		t.Fatal(err)
	}
	h.lapse()
	for _, c := range []struct {
		q           idempotency.Query
		limit, want int
	}{
		{idempotency.Query{}, 1000, n},
		{idempotency.Query{}, 7, 7},
		{idempotency.Query{Route: "checkout"}, 1000, n / 4},
		{idempotency.Query{Principal: "bert"}, 1000, n / 2},
		{idempotency.Query{Principal: "bert", ClientKey: "key-3"}, 1000, 1},
		{idempotency.Query{Principal: "anna", ClientKey: "key-3"}, 1000, 0},
		{idempotency.Query{State: idempotency.Answered}, 1000, n / 4},
		{idempotency.Query{OfTransaction: true}, 1000, 0},
		{idempotency.Query{State: idempotency.Unknown}, 1000, 2}, // 9, 19, …, 39 lapsed; 9 and 29 of these are answered
		{idempotency.Query{Route: "nothing"}, 1000, 0},
	} {
		got, err := h.Store.List(ctx, c.q, c.limit)
		if err != nil || len(got) != c.want {
			t.Errorf("List %+v, limit %d: %d records, %v; want %d", c.q, c.limit, len(got), err, c.want)
		}
		seen := map[string]bool{}
		for i := range got {
			if seen[got[i].ID] || !c.q.Matches(&got[i]) || got[i].ID == "" {
				t.Errorf("List %+v: record %+v", c.q, got[i])
			}
			seen[got[i].ID] = true
		}
	}
	for _, limit := range []int{1, 3, 1000} {
		if got := allPages(t, h, idempotency.Query{Principal: "bert"}, limit); len(got) != n/2 {
			t.Errorf("pages of %d: %d records, want %d", limit, len(got), n/2)
		}
	}
	for _, cursor := range []string{"?", "zz:", "9999999:x", strings.Repeat("f", 32)} {
		if _, _, err := h.Store.Page(ctx, idempotency.Query{}, cursor, 10); !errors.Is(err, idempotency.ErrCursor) {
			t.Errorf("cursor %q: %v, want %v", cursor, err, idempotency.ErrCursor)
		}
	}
}

// allPages returns the IDs of all records that match, page by page. Beside it records come and go.
func allPages(t *testing.T, h Harness, q idempotency.Query, limit int) map[string]bool {
	t.Helper()
	ids, cursor := map[string]bool{}, ""
	for turn := 0; ; turn++ {
		page, next, err := h.Store.Page(background(t), q, cursor, limit)
		if err != nil {
			t.Fatalf("page behind %q: %v", cursor, err)
		}
		for i := range page {
			if !q.Matches(&page[i]) {
				t.Errorf("record %+v does not match %+v", page[i], q)
			}
			ids[page[i].ID] = true
		}
		if cursor = next; cursor == "" {
			return ids
		}
		if turn < 10 { // what comes meanwhile hides nothing
			c := request(newID())
			c.Principal = "carl"
			mustClaim(t, h.Store, c)
		}
	}
}

func testSecret(t *testing.T, h Harness) {
	ctx := background(t)
	stores := []idempotency.Store{h.Store}
	if h.Second != nil {
		stores = append(stores, h.Second(t))
	}
	got := make([][]byte, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			b, err := stores[i%len(stores)].Secret(ctx, "branches", 32)
			if err != nil {
				t.Error(err)
			}
			got[i] = b
		})
	}
	wg.Wait()
	for _, b := range got {
		if len(b) != 32 || !bytes.Equal(b, got[0]) || bytes.Equal(b, make([]byte, 32)) {
			t.Errorf("secret %x, another %x", b, got[0])
		}
	}
	other, err := h.Store.Secret(ctx, "other", 32)
	if err != nil || bytes.Equal(other, got[0]) {
		t.Errorf("another name: %x, %v", other, err)
	}
	if b, err := h.Store.Secret(ctx, "branches", 16); err == nil {
		t.Errorf("asked for another length: %x, want an error", b)
	}
}

// waiter starts a Wait and returns where its outcome comes. The wait is for a record that stands there, so it can
// only return by the change that the test makes, whichever of the two is first.
func waiter(ctx context.Context, s idempotency.Store, id string, token uint64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx, id, token) }()
	return done
}

func woken(t *testing.T, what string, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: Wait: %v", what, err)
		}
	case <-time.After(soon):
		t.Fatalf("%s: Wait did not return", what)
	}
}

func testWait(t *testing.T, h Harness) {
	ctx := background(t)
	for _, c := range []struct {
		name string
		end  func(id string, token uint64)
	}{
		{"finish", func(id string, token uint64) {
			mustChange(t, h.Store, id, token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
		}},
		{"free", func(id string, token uint64) {
			mustChange(t, h.Store, id, token, idempotency.Change{Op: idempotency.Free})
		}},
		{"mark unknown", func(id string, token uint64) {
			mustChange(t, h.Store, id, token, idempotency.Change{Op: idempotency.MarkUnknown})
		}},
		{"resolve", func(id string, _ uint64) {
			if ok, err := h.Store.Resolve(ctx, id, response(200), true); err != nil || !ok {
				t.Fatal(ok, err)
			}
		}},
		{"delegate and finish", func(id string, token uint64) {
			mustChange(t, h.Store, id, token, idempotency.Change{Op: idempotency.Delegate, GID: "g1"})
			mustChange(t, h.Store, id, token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
		}},
	} {
		req := request(newID())
		mustClaim(t, h.Store, req)
		var all []<-chan error
		for range 3 {
			all = append(all, waiter(ctx, h.Store, req.ID, req.Token))
		}
		if h.Second != nil {
			all = append(all, waiter(ctx, h.Second(t), req.ID, req.Token))
		}
		select {
		case err := <-all[0]:
			t.Fatalf("%s: Wait returned %v while the request runs", c.name, err)
		case <-time.After(5 * time.Millisecond):
		}
		c.end(req.ID, req.Token)
		for _, done := range all {
			woken(t, c.name, done)
		}
	}
}

func testWaitEnds(t *testing.T, h Harness) {
	ctx := background(t)
	woken(t, "no record", waiter(ctx, h.Store, newID(), 1))
	c := request(newID())
	c.Lease = 40 * time.Millisecond
	mustClaim(t, h.Store, c)
	woken(t, "other token", waiter(ctx, h.Store, c.ID, c.Token+1))
	done := waiter(ctx, h.Store, c.ID, c.Token)
	h.pass(c.Lease)
	woken(t, "lapse", done)

	c = request(newID())
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Delegate, GID: "g1"})
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if err := h.Store.Wait(short, c.ID, c.Token); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a delegated record: %v, want the end of its context", err)
	}
}

func testEndedContext(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := request(newID())
	_, claimed, err := h.Store.Claim(ctx, c)
	if err == nil || claimed {
		t.Errorf("Claim: %v, %v, want an error", claimed, err)
	}
	err = h.Store.Change(ctx, c.ID, c.Token, idempotency.Change{Op: idempotency.Free})
	if err == nil || errors.Is(err, idempotency.ErrLost) {
		t.Errorf("Change: %v, want the context's error", err)
	}
	if _, _, err := h.Store.Get(ctx, c.ID); err == nil {
		t.Error("Get: no error")
	}
	if err := h.Store.Ping(ctx); err == nil {
		t.Error("Ping: no error")
	}
	if err := h.Store.Ping(background(t)); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// testContention: of many claims of one key at once exactly one is granted, again and again, also after unknown
// outcomes.
func testContention(t *testing.T, h Harness) {
	stores := []idempotency.Store{h.Store}
	if h.Second != nil {
		stores = append(stores, h.Second(t))
	}
	ctx := background(t)
	id := newID()
	for round := 1; round <= 5; round++ {
		var winners, others atomic.Int32
		var token atomic.Uint64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 64 {
			wg.Go(func() {
				c := request(id)
				c.Retry = true
				<-start
				rec, claimed, err := stores[i%len(stores)].Claim(ctx, c)
				switch {
				case err != nil:
					t.Error(err)
				case claimed:
					winners.Add(1)
					token.Store(c.Token)
					if rec.Attempt != round {
						t.Errorf("attempt %d, want %d", rec.Attempt, round)
					}
				case rec.State == idempotency.InFlight:
					others.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if winners.Load() != 1 || others.Load() != 63 {
			t.Fatalf("round %d: %d claimed, %d saw it in flight; want 1 and 63", round, winners.Load(), others.Load())
		}
		mustChange(t, h.Store, id, token.Load(), idempotency.Change{Op: idempotency.MarkUnknown})
	}
}

// testConcurrentKeys: many keys at once, each with its whole life; what was acknowledged is there.
func testConcurrentKeys(t *testing.T, h Harness) {
	ctx := background(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				c := request(fmt.Sprintf("key-%d-%d", w, i))
				if _, claimed, err := h.Store.Claim(ctx, c); err != nil || !claimed {
					t.Errorf("claim: %v, %v", claimed, err)
					return
				}
				finish := idempotency.Change{Op: idempotency.Finish, Response: []byte(c.ID)}
				if err := h.Store.Change(ctx, c.ID, c.Token, finish); err != nil {
					t.Error(err)
					return
				}
				rec, ok, err := h.Store.Get(ctx, c.ID)
				if err != nil || !ok || string(rec.Response) != c.ID || rec.Token != c.Token {
					t.Errorf("read back %+v, %v, %v", rec, ok, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// lent is memory of a caller, which uses it again.
type lent struct{ all [][]byte }

func (l *lent) text(s string) string {
	b := []byte(s)
	l.all = append(l.all, b)
	return filters.Alias(b)
}

func (l *lent) bytes(b []byte) []byte {
	l.all = append(l.all, b)
	return b
}

func (l *lent) overwrite() {
	for _, b := range l.all {
		for i := range b {
			b[i] = '#'
		}
	}
	l.all = nil
}

// testBuffers: what a store is given lies in buffers that are used again as soon as it returns.
func testBuffers(t *testing.T, h Harness) {
	ctx := background(t)
	id := newID()
	want := request(id)
	var l lent
	c := want
	c.ID, c.Route, c.Principal, c.ClientKey = l.text(c.ID), l.text(c.Route), l.text(c.Principal), l.text(c.ClientKey)
	c.Service = l.text("order")
	mustClaim(t, h.Store, c)
	l.overwrite()
	look := func(state idempotency.State, gid string, a []byte) {
		t.Helper()
		rec := mustGet(t, h.Store, id, state)
		if rec.ID != id || rec.Route != want.Route || rec.Principal != want.Principal ||
			rec.ClientKey != want.ClientKey || rec.GID != gid {
			t.Errorf("record %+v, claimed with %+v", rec, want)
		}
		if !bytes.Equal(rec.Response, a) {
			t.Errorf("response %q, want %q", rec.Response, a)
		}
		q := idempotency.Query{Route: want.Route, Principal: want.Principal, ClientKey: want.ClientKey, State: state}
		list, err := h.Store.List(ctx, q, 10)
		if err != nil || len(list) != 1 || list[0].ID != id {
			t.Errorf("List: %+v, %v", list, err)
		}
	}
	change := func(ch idempotency.Change) {
		t.Helper()
		mustChange(t, h.Store, l.text(id), want.Token, ch)
		l.overwrite()
	}
	look(idempotency.InFlight, "", nil)
	change(idempotency.Change{Op: idempotency.Renew, Lease: time.Minute})
	change(idempotency.Change{Op: idempotency.Delegate, GID: l.text("g1")})
	look(idempotency.Delegated, "g1", nil)
	for _, q := range []idempotency.Query{{OfTransaction: true}, {State: idempotency.Unknown, Delegated: true}} {
		q.Route = want.Route
		if list, err := h.Store.List(ctx, q, 10); err != nil || len(list) != 1 || list[0].ID != id {
			t.Errorf("List %+v: %+v, %v", q, list, err)
		}
	}
	change(idempotency.Change{Op: idempotency.Finish, Response: l.bytes(response(201))})
	look(idempotency.Answered, "g1", response(201))
	if ok, err := h.Store.Resolve(ctx, l.text(id), l.bytes(response(202)), true); err != nil || !ok {
		t.Fatal(ok, err)
	}
	l.overwrite()
	look(idempotency.Answered, "g1", response(202))
}

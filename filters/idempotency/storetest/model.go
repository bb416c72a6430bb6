package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// sameRecord compares two records; times may differ by less than slack and need not share a zone.
func sameRecord(a, b idempotency.Record, slack time.Duration) bool {
	near := func(x, y time.Time) bool { return x.Equal(y) || x.Sub(y).Abs() < slack }
	if !near(a.Created, b.Created) || !near(a.LeaseUntil, b.LeaseUntil) || !near(a.CapUntil, b.CapUntil) ||
		!near(a.Expires, b.Expires) {
		return false
	}
	for _, r := range []*idempotency.Record{&a, &b} {
		r.Created, r.LeaseUntil, r.CapUntil, r.Expires = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	a.Place, b.Place = 0, 0 // what it says is the store's own
	return reflect.DeepEqual(a, b)
}

// model is the pure core with a map: what the store must agree with.
type model struct {
	h       Harness
	ctx     context.Context
	records map[string]*idempotency.Record
	tokens  map[string][]uint64 // every token that was ever drawn for a key
	places  []uint64            // that claims of any of the keys have returned
	base    string              // the keys of this run begin so: one store serves all runs
}

// draw draws a span. A store with a clock that stands still between steps is brought to the very ends of leases
// and records. On a real clock a few seconds must decide nothing: there no sum of the spans by which time goes
// on comes near a lease, a cap or an expiry.
func (m *model) draw(t *rapid.T, name string, choices ...time.Duration) time.Duration {
	return rapid.SampledFrom(choices).Draw(t, name)
}

func (m *model) key(t *rapid.T) string {
	return m.base + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
}

func (m *model) token(t *rapid.T, id string) uint64 {
	drawn := m.tokens[id]
	if len(drawn) == 0 {
		return 7
	}
	i := rapid.IntRange(0, min(len(drawn)-1, 3)).Draw(t, "token, how many claims ago")
	return drawn[len(drawn)-1-i]
}

func (m *model) slack() time.Duration {
	if m.h.Advance != nil {
		return m.h.Resolution
	}
	return 5 * time.Second
}

func (m *model) now() time.Time {
	if m.h.Now != nil {
		return m.h.Now()
	}
	return time.Now()
}

func (m *model) compare(t *rapid.T, what string, got, want idempotency.Record) {
	if !sameRecord(got, want, m.slack()) {
		t.Fatalf("%s: store  %+v\ncore  %+v", what, got, want)
	}
}

func (m *model) claim(t *rapid.T) {
	id := m.key(t)
	c := request(id)
	c.Fingerprint[0] = byte(rapid.IntRange(0, 1).Draw(t, "fingerprint"))
	c.Retry = rapid.Bool().Draw(t, "retry")
	if rapid.Bool().Draw(t, "retry of one claim") {
		c.RetryOf = m.token(t, id)
	}
	c.Service = rapid.SampledFrom([]string{"", "order", "order-canary"}).Draw(t, "service")
	c.NotDispatched = rapid.Bool().Draw(t, "not dispatched")
	c.Lease = m.draw(t, "lease", 10*time.Minute, 20*time.Minute)
	c.Cap = m.draw(t, "cap", 20*time.Minute, 40*time.Minute)
	c.TTL = m.draw(t, "ttl", 30*time.Minute, time.Hour)
	now := m.now()
	want, wantClaimed := idempotency.Claim(m.records[id], c, now)
	got, claimed, err := m.h.Store.Claim(m.ctx, c)
	if err != nil || claimed != wantClaimed {
		t.Fatalf("claim: %v, %v; core says %v", claimed, err, wantClaimed)
	}
	m.compare(t, "claim", got, want)
	if claimed {
		m.records[id] = &got // the store's own times, which differ by the way to it
		m.tokens[id] = append(m.tokens[id], c.Token)
		m.places = append(m.places, got.Place)
	}
}

// place draws where some record lies, or lay once: a store finds the right one whatever it is told.
func (m *model) place(t *rapid.T) uint64 {
	if len(m.places) == 0 || rapid.Bool().Draw(t, "no place") {
		return 0
	}
	return rapid.SampledFrom(m.places).Draw(t, "place")
}

func (m *model) change(t *rapid.T) {
	id := m.key(t)
	token := m.token(t, id)
	op := rapid.IntRange(int(idempotency.Renew), int(idempotency.Delegate)).Draw(t, "op")
	ch := idempotency.Change{Op: idempotency.Op(op), Place: m.place(t)}
	switch ch.Op {
	case idempotency.Renew:
		ch.Attempt = rapid.IntRange(0, 3).Draw(t, "attempt")
		ch.Lease = m.draw(t, "lease", 10*time.Minute, time.Hour)
	case idempotency.Finish:
		ch.Response = response(rapid.IntRange(200, 599).Draw(t, "status"))
		if rec := m.records[id]; rec != nil {
			of := rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "of another record")
			ch.Created = rec.Created.Add(of)
		}
	case idempotency.Delegate:
		ch.GID = rapid.StringMatching("[0-9a-v]{40}").Draw(t, "gid")
	}
	next, remove, want := idempotency.Apply(m.records[id], token, ch, m.now())
	if err := m.h.Store.Change(m.ctx, id, token, ch); !errors.Is(err, want) {
		t.Fatalf("change op %d: %v; core says %v", ch.Op, err, want)
	}
	switch {
	case want != nil:
	case remove:
		delete(m.records, id)
	default:
		m.records[id] = &next
	}
}

func (m *model) resolve(t *rapid.T) {
	id := m.key(t)
	var a []byte
	if rapid.Bool().Draw(t, "as answered") {
		a = response(299)
	}
	now := m.now()
	_, there := idempotency.View(m.records[id], now)
	force := rapid.Bool().Draw(t, "force")
	ok, err := m.h.Store.Resolve(m.ctx, id, a, force)
	if there {
		if _, _, want := idempotency.Resolve(m.records[id], a, force, 0, now); want != nil {
			if !errors.Is(err, want) || ok {
				t.Fatalf("resolve: %v, %v; core says %v", ok, err, want)
			}
			return
		}
	}
	if err != nil || ok != there {
		t.Fatalf("resolve: %v, %v; core says %v", ok, err, there)
	}
	if !there {
		return
	}
	if next, remove, _ := idempotency.Resolve(m.records[id], a, true, 0, now); remove {
		delete(m.records, id)
	} else {
		rec, ok, err := m.h.Store.Get(m.ctx, id)
		if err != nil || !ok || rec.Token == 0 {
			t.Fatalf("get after resolve: %+v, %v, %v", rec, ok, err)
		}
		next.Token = rec.Token
		m.records[id] = &next
	}
}

// check reads every key and compares it with the core's view.
func (m *model) check(t *rapid.T) {
	for _, name := range []string{"a", "b", "c"} {
		id := m.base + name
		want, there := idempotency.View(m.records[id], m.now())
		got, ok, err := m.h.Store.Get(m.ctx, id)
		if err != nil || ok != there {
			t.Fatalf("get %s: %v, %v; core says %v", id, ok, err, there)
		}
		if ok {
			m.compare(t, "get "+id, got, want)
			m.records[id] = keep(m.records[id], got)
		}
	}
}

// keep takes the store's times over, so that small differences do not add up over the steps.
func keep(rec *idempotency.Record, got idempotency.Record) *idempotency.Record {
	c := *rec
	c.Created, c.LeaseUntil, c.CapUntil, c.Expires = got.Created, got.LeaseUntil, got.CapUntil, got.Expires
	return &c
}

// shift moves the times of the store's records and of the model's.
func (m *model) shift(d time.Duration) {
	m.h.Shift(d)
	for id, rec := range m.records {
		c := *rec
		for _, at := range []*time.Time{&c.Created, &c.LeaseUntil, &c.CapUntil, &c.Expires} {
			*at = at.Add(-d)
		}
		m.records[id] = &c
	}
}

func testModel(t *testing.T, h Harness) {
	ctx := t.Context() // of so many steps no limit is right on every machine
	run := newID()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		m := &model{
			h: h, ctx: ctx, base: fmt.Sprintf("%s-%d-", run, n),
			records: map[string]*idempotency.Record{}, tokens: map[string][]uint64{},
		}
		steps := map[string]func(*rapid.T){
			"": m.check, "claim": m.claim, "claim again": m.claim,
			"change": m.change, "change again": m.change, "resolve": m.resolve,
		}
		switch {
		case h.Advance != nil:
			steps["time"] = func(t *rapid.T) {
				h.Advance(m.draw(t, "time",
					time.Second, 10*time.Minute-1, 10*time.Minute, 20*time.Minute, 30*time.Minute))
			}
		case h.Shift != nil:
			steps["time"] = func(t *rapid.T) {
				m.shift(m.draw(t, "time", time.Second, 11*time.Minute, 21*time.Minute, 31*time.Minute))
			}
		}
		t.Repeat(steps)
	})
}

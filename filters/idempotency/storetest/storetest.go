package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// Harness is one store under test, empty when it is opened.
type Harness struct {
	Store idempotency.Store
	// Advance moves the store's clock forward. nil: the clock is real, and the suite waits; its leases are short then.
	Advance func(time.Duration)
	// Shift moves all times in the store's records back by so much: as good as Advance where the clock is that
	// of a server.
	Shift func(time.Duration)
	// Now is the store's clock, where Advance is set.
	Now func() time.Time
	// Resolution is how finely the store keeps times; 0 is a nanosecond.
	Resolution time.Duration
	// Second opens another store on the same records, as another gateway would. nil: the store is for one gateway.
	Second func(t *testing.T) idempotency.Store
}

// Run runs the suite. open is called for each part; what it opens it closes by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	parts := []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"Claim", testClaim},
		{"RecordIsKeptWhole", testWhole},
		{"FinishIsReplayed", testFinish},
		{"FinishAgain", testFinishAgain},
		{"Free", testFree},
		{"MarkUnknown", testMarkUnknown},
		{"Delegate", testDelegate},
		{"FreeTwice", testFreeTwice},
		{"Renew", testRenew},
		{"LapseIsUnknown", testLapse},
		{"LapseOfNotDispatchedIsFree", testLapseNotDispatched},
		{"RetryAfterUnknown", testRetry},
		{"RetryOfOneClaim", testRetryOf},
		{"OpenKeys", testOpenKeys},
		{"OpenKeysOfOneMoment", testOpenKeysAtOnce},
		{"OpenKeysOfALapsedClaim", testOpenKeysOfALapsedClaim},
		{"OpenKeysWithoutALimit", testOpenKeysWithoutALimit},
		{"LateOwnerFenced", testFenced},
		{"LateResponseOfUnknown", testLateResponse},
		{"LateOwnerSettles", testLateOwner},
		{"LateOwnerOfAnotherRecord", testLateOwnerOfAnotherRecord},
		{"TakeOverWithNothingSentLapses", testTakeOverLapses},
		{"Expiry", testExpiry},
		{"Resolve", testResolve},
		{"List", testList},
		{"Census", testCensus},
		{"Secret", testSecret},
		{"WaitIsWoken", testWait},
		{"WaitEnds", testWaitEnds},
		{"EndedContext", testEndedContext},
		{"BuffersAreUsedAgain", testBuffers},
		{"OneOfManyClaims", testContention},
		{"ConcurrentKeys", testConcurrentKeys},
		{"Model", testModel},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, open(t)) })
	}
}

// soon bounds everything that must happen promptly; it is generous, because a machine can be busy.
const soon = 20 * time.Second

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*soon)
	t.Cleanup(cancel)
	return ctx
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func newToken() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1<<63 // beyond what a double or an int64 holds
}

func request(id string) idempotency.ClaimRequest {
	return idempotency.ClaimRequest{
		ID: id, Token: newToken(), Fingerprint: [32]byte{0, 1, 2, 0xff, '\r', '\n'},
		Route: "create-order", Principal: "anna", ClientKey: "key-1",
		Lease: time.Minute, Cap: 10 * time.Minute, TTL: time.Hour,
	}
}

// response is the stored form of a response. Stores do not look into it.
func response(status int) []byte {
	return []byte(fmt.Sprintf("%d {\"id\":\"o-1\",\"raw\":\"\x00\xff\r\n\"}", status))
}

// pass lets time go by in the store.
func (h Harness) pass(d time.Duration) {
	switch {
	case h.Advance != nil:
		h.Advance(d)
	case h.Shift != nil:
		h.Shift(d)
	default:
		time.Sleep(d) // the store's clock is real: nothing but time makes it go on
	}
}

// tick lets the clock go on by a little, so that a time that is taken anew differs. Stored times stay what they are.
func (h Harness) tick() {
	if h.Advance != nil {
		h.Advance(2 * time.Millisecond)
		return
	}
	time.Sleep(2 * time.Millisecond)
}

// short is a lease that the suite can let lapse.
func (h Harness) short() time.Duration {
	if h.Advance != nil || h.Shift != nil {
		return 10 * time.Second
	}
	return 30 * time.Millisecond
}

// lapse lets a lease of short() lapse.
func (h Harness) lapse() { h.pass(h.short() + 5*time.Millisecond) }

// lapseNow lets a lease lapse that is long, so that no step before this is too late for it on a busy machine.
func (h Harness) lapseNow(t testing.TB, c idempotency.ClaimRequest) {
	t.Helper()
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Renew, Lease: h.short()})
	h.lapse()
}

// changedInTime claims a key and makes a change of the claim before its lease is over, and lets the time of the lease
// pass. set takes the lease, which is a longer one each time that the machine was too slow for it.
func (h Harness) changedInTime(
	t testing.TB, set func(c *idempotency.ClaimRequest, lease time.Duration), ch idempotency.Change,
) idempotency.ClaimRequest {
	t.Helper()
	for lease := h.short(); ; lease *= 4 {
		c := request(newID())
		set(&c, lease)
		began := time.Now()
		mustClaim(t, h.Store, c)
		err := h.Store.Change(background(t), c.ID, c.Token, ch)
		if errors.Is(err, idempotency.ErrLost) && time.Since(began) >= lease && lease < soon {
			continue
		}
		if err != nil {
			t.Fatalf("Change op %d: %v", ch.Op, err)
		}
		h.pass(lease + 5*time.Millisecond)
		return c
	}
}

func mustClaim(t testing.TB, s idempotency.Store, c idempotency.ClaimRequest) idempotency.Record {
	t.Helper()
	rec, claimed, err := s.Claim(background(t), c)
	if err != nil || !claimed {
		t.Fatalf("Claim %s: claimed %v, state %v, %v; want a claim", c.ID, claimed, rec.State, err)
	}
	if rec.Token != c.Token || rec.State != idempotency.InFlight {
		t.Fatalf("Claim returned token %d in state %v, want %d in flight", rec.Token, rec.State, c.Token)
	}
	return rec
}

func mustNotClaim(
	t testing.TB, s idempotency.Store, c idempotency.ClaimRequest, want idempotency.State,
) idempotency.Record {
	t.Helper()
	rec, claimed, err := s.Claim(background(t), c)
	if err != nil || claimed || rec.State != want {
		t.Fatalf("Claim %s: claimed %v, state %v, %v; want none, state %v", c.ID, claimed, rec.State, err, want)
	}
	return rec
}

func mustChange(t testing.TB, s idempotency.Store, id string, token uint64, ch idempotency.Change) {
	t.Helper()
	if err := s.Change(background(t), id, token, ch); err != nil {
		t.Fatalf("Change op %d: %v", ch.Op, err)
	}
}

func mustLose(t testing.TB, s idempotency.Store, id string, token uint64, ch idempotency.Change) {
	t.Helper()
	if err := s.Change(background(t), id, token, ch); !errors.Is(err, idempotency.ErrLost) {
		t.Fatalf("Change op %d: %v, want ErrLost", ch.Op, err)
	}
}

func mustGet(t testing.TB, s idempotency.Store, id string, want idempotency.State) idempotency.Record {
	t.Helper()
	rec, ok, err := s.Get(background(t), id)
	if err != nil || !ok || rec.State != want {
		t.Fatalf("Get: %v, state %v, %v; want state %v", ok, rec.State, err, want)
	}
	return rec
}

func mustBeGone(t testing.TB, s idempotency.Store, id string) {
	t.Helper()
	if rec, ok, err := s.Get(background(t), id); err != nil || ok {
		t.Fatalf("Get: state %v, %v, %v; want none", rec.State, ok, err)
	}
}

func testClaim(t *testing.T, h Harness) {
	mustBeGone(t, h.Store, "never-claimed")
	c := request(newID())
	rec := mustClaim(t, h.Store, c)
	if rec.Attempt != 1 || rec.Created.IsZero() || rec.LeaseUntil.Sub(rec.Created) != c.Lease ||
		rec.CapUntil.Sub(rec.Created) != c.Cap {
		t.Errorf("claimed record %+v", rec)
	}
	second := request(c.ID)
	second.Retry = true
	if got := mustNotClaim(t, h.Store, second, idempotency.InFlight); got.Token != c.Token {
		t.Errorf("the record that stands there has token %d, want %d", got.Token, c.Token)
	}
	second.Fingerprint[0]++
	got := mustNotClaim(t, h.Store, second, idempotency.InFlight)
	if got.Fingerprint != c.Fingerprint {
		t.Errorf("fingerprint %x, want the first one's %x", got.Fingerprint, c.Fingerprint)
	}
}

// testWhole: what Get gives is what Claim gave, whatever bytes are in it.
func testWhole(t *testing.T, h Harness) {
	c := request(newID())
	c.Route, c.Principal, c.ClientKey = "räute\n", "ip:192.0.2.7 \x00\xff", `"quoted\"`
	c.Service = "sërvice"
	claimed := mustClaim(t, h.Store, c)
	rec := mustGet(t, h.Store, c.ID, idempotency.InFlight)
	if !sameRecord(rec, claimed, 0) {
		t.Errorf("got  %+v\nwant %+v", rec, claimed)
	}
	if rec.ID != c.ID || rec.Route != c.Route || rec.Service != c.Service ||
		rec.Principal != c.Principal || rec.ClientKey != c.ClientKey ||
		rec.TTL != c.TTL || rec.NotDispatched {
		t.Errorf("record %+v of claim %+v", rec, c)
	}
	bare := idempotency.ClaimRequest{ID: newID(), Token: 1, Lease: time.Minute, Cap: time.Minute, TTL: time.Hour}
	mustClaim(t, h.Store, bare)
	mustChange(t, h.Store, bare.ID, 1, idempotency.Change{Op: idempotency.Finish, Response: []byte{0}})
	rec = mustGet(t, h.Store, bare.ID, idempotency.Answered)
	if !bytes.Equal(rec.Response, []byte{0}) {
		t.Errorf("a response of one byte came back as %q", rec.Response)
	}
}

func testFinish(t *testing.T, h Harness) {
	c := request(newID())
	rec := mustClaim(t, h.Store, c)
	a := response(201)
	want := response(201)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: a})
	clear(a) // the caller's buffers are used again
	got := mustNotClaim(t, h.Store, request(c.ID), idempotency.Answered)
	if !bytes.Equal(got.Response, want) {
		t.Errorf("response %q, want %q", got.Response, want)
	}
	if got.Attempt != 1 || !got.Created.Equal(rec.Created) || got.ClientKey != c.ClientKey {
		t.Errorf("answered record %+v", got)
	}
	for _, ch := range []idempotency.Change{
		{Op: idempotency.Renew, Lease: time.Minute}, {Op: idempotency.Free}, {Op: idempotency.MarkUnknown},
		{Op: idempotency.Delegate},
	} {
		mustLose(t, h.Store, c.ID, c.Token, ch)
	}
	long := make([]byte, 1<<20)
	_, _ = rand.Read(long)
	c = request(newID())
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: long})
	if got := mustGet(t, h.Store, c.ID, idempotency.Answered); !bytes.Equal(got.Response, long) {
		t.Error("a response of 1 MiB came back changed")
	}
}

func testFinishAgain(t *testing.T, h Harness) {
	c := request(newID())
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	first := mustGet(t, h.Store, c.ID, idempotency.Answered)
	h.tick()
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(500)})
	if got := mustGet(t, h.Store, c.ID, idempotency.Answered); !sameRecord(got, first, 0) {
		t.Errorf("finished again: %+v\nwant the first end %+v", got, first)
	}
	mustLose(t, h.Store, c.ID, c.Token+1, idempotency.Change{Op: idempotency.Finish, Response: response(500)})
}

func testFree(t *testing.T, h Harness) {
	c := request(newID())
	mustClaim(t, h.Store, c)
	mustLose(t, h.Store, c.ID, c.Token-1, idempotency.Change{Op: idempotency.Free})
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Free})
	mustBeGone(t, h.Store, c.ID)
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
	again := request(c.ID)
	again.Fingerprint[1]++ // a free key takes any request
	if rec := mustClaim(t, h.Store, again); rec.Attempt != 1 {
		t.Errorf("attempt %d of a free key, want 1", rec.Attempt)
	}
}

func testMarkUnknown(t *testing.T, h Harness) {
	c := request(newID())
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	mustNotClaim(t, h.Store, request(c.ID), idempotency.Unknown)
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Renew, Lease: time.Minute})
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Delegate, GID: "g1"})
}

// testFreeTwice: an attempt that is freed again, because the first acknowledgement was lost, leaves the outcome of
// the one before unknown.
func testFreeTwice(t *testing.T, h Harness) {
	c := request(newID())
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	again := request(c.ID)
	again.Retry = true
	mustClaim(t, h.Store, again)
	for range 2 {
		mustChange(t, h.Store, c.ID, again.Token, idempotency.Change{Op: idempotency.Free})
	}
	if rec := mustGet(t, h.Store, c.ID, idempotency.Unknown); rec.Attempt != 1 {
		t.Errorf("attempt %d", rec.Attempt)
	}
}

func testDelegate(t *testing.T, h Harness) {
	c := h.changedInTime(t, func(c *idempotency.ClaimRequest, lease time.Duration) {
		c.NotDispatched, c.Lease, c.Cap = true, lease, lease
	}, idempotency.Change{Op: idempotency.Delegate, GID: "g1"}) // no lease runs any more
	retry := request(c.ID)
	retry.Retry = true
	mustNotClaim(t, h.Store, retry, idempotency.Delegated)
	before := mustGet(t, h.Store, c.ID, idempotency.Delegated)
	if before.GID != "g1" {
		t.Errorf("the gid is %q", before.GID)
	}
	h.tick()
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Renew, Lease: time.Minute})
	if after := mustGet(t, h.Store, c.ID, idempotency.Delegated); !after.Expires.After(before.Expires) {
		t.Errorf("renewed delegated record expires %v, before %v", after.Expires, before.Expires)
	}
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
	mustGet(t, h.Store, c.ID, idempotency.Answered)
}

func testRenew(t *testing.T, h Harness) {
	c := h.changedInTime(t, func(c *idempotency.ClaimRequest, lease time.Duration) { c.Lease = lease },
		idempotency.Change{Op: idempotency.Renew, Lease: 5 * time.Minute})
	mustGet(t, h.Store, c.ID, idempotency.InFlight)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Renew, Lease: time.Hour})
	if got := mustGet(t, h.Store, c.ID, idempotency.InFlight); !got.LeaseUntil.Equal(got.CapUntil) {
		t.Errorf("lease until %v, want the cap %v", got.LeaseUntil, got.CapUntil)
	}
	mustLose(t, h.Store, c.ID, c.Token+1, idempotency.Change{Op: idempotency.Renew, Lease: time.Minute})

	c = request(newID())
	c.Lease, c.Cap = h.short(), h.short()
	mustClaim(t, h.Store, c)
	h.lapse()
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Renew, Lease: time.Minute})
}

func testLapse(t *testing.T, h Harness) {
	c := request(newID())
	c.Lease = h.short()
	mustClaim(t, h.Store, c)
	h.lapse()
	mustGet(t, h.Store, c.ID, idempotency.Unknown)
	mustNotClaim(t, h.Store, request(c.ID), idempotency.Unknown)
	other := request(c.ID)
	other.Fingerprint[0]++
	other.Retry = true
	mustNotClaim(t, h.Store, other, idempotency.Unknown)
}

func testLapseNotDispatched(t *testing.T, h Harness) {
	c := request(newID())
	c.NotDispatched = true
	mustClaim(t, h.Store, c)
	mustNotClaim(t, h.Store, request(c.ID), idempotency.InFlight)

	c = request(newID())
	c.Lease, c.NotDispatched = h.short(), true
	mustClaim(t, h.Store, c)
	h.lapse()
	mustBeGone(t, h.Store, c.ID)
	again := request(c.ID)
	again.Fingerprint[0]++
	if rec := mustClaim(t, h.Store, again); rec.Attempt != 1 {
		t.Errorf("attempt %d, want 1", rec.Attempt)
	}
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(200)})
}

func testRetry(t *testing.T, h Harness) {
	c := request(newID())
	first := mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	for want := 2; want <= 4; want++ {
		h.tick()
		retry := request(c.ID)
		retry.Retry = true
		rec := mustClaim(t, h.Store, retry)
		if rec.Attempt != want || !rec.Created.Equal(first.Created) {
			t.Fatalf("attempt %d, created %v; want %d, %v", rec.Attempt, rec.Created, want, first.Created)
		}
		if got := mustGet(t, h.Store, c.ID, idempotency.InFlight); !sameRecord(got, rec, 0) {
			t.Fatalf("stored %+v\nclaimed %+v", got, rec)
		}
		mustChange(t, h.Store, c.ID, retry.Token, idempotency.Change{Op: idempotency.MarkUnknown})
	}
}

func testFenced(t *testing.T, h Harness) {
	c := request(newID())
	c.Lease = h.short()
	mustClaim(t, h.Store, c)
	h.lapse()
	second := request(c.ID)
	second.Retry = true
	mustClaim(t, h.Store, second)
	for _, ch := range []idempotency.Change{
		{Op: idempotency.Renew, Lease: time.Minute}, {Op: idempotency.Finish, Response: response(500)},
		{Op: idempotency.Free}, {Op: idempotency.MarkUnknown}, {Op: idempotency.Delegate},
	} {
		mustLose(t, h.Store, c.ID, c.Token, ch)
	}
	mustChange(t, h.Store, c.ID, second.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	rec := mustGet(t, h.Store, c.ID, idempotency.Answered)
	if !bytes.Equal(rec.Response, response(201)) || rec.Attempt != 2 {
		t.Errorf("response %q, attempt %d", rec.Response, rec.Attempt)
	}
}

func testLateResponse(t *testing.T, h Harness) {
	c := request(newID())
	c.Lease, c.Cap = h.short(), h.short()
	mustClaim(t, h.Store, c)
	h.lapse()
	mustNotClaim(t, h.Store, request(c.ID), idempotency.Unknown)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	mustNotClaim(t, h.Store, request(c.ID), idempotency.Answered)
}

func testExpiry(t *testing.T, h Harness) {
	c := request(newID())
	c.TTL = h.short()
	mustClaim(t, h.Store, c)
	mustChange(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	h.lapse()
	mustBeGone(t, h.Store, c.ID)
	mustLose(t, h.Store, c.ID, c.Token, idempotency.Change{Op: idempotency.Finish, Response: response(201)})
	again := request(c.ID)
	again.Fingerprint[0]++
	rec := mustClaim(t, h.Store, again)
	if rec.Attempt != 1 || rec.Response != nil {
		t.Errorf("expired key claimed as %+v", rec)
	}
	if got := mustGet(t, h.Store, c.ID, idempotency.InFlight); got.Response != nil {
		t.Errorf("the old response %q is left in the new record", got.Response)
	}
}

package transaction

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

var bothCalls = []byte(`{"route":"checkout","do":{"service":"a","method":"POST","path":"/do"},` +
	`"undo":{"service":"a","method":"POST","path":"/undo"}}`)

// countCalls has every service call succeed, and returns how often one was made.
func (d *fixture) countCalls() *int {
	n := new(int)
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		*n++
		return 200, "", filters.Completed
	}
	return n
}

// settle writes the end of a delegated record.
func (d *fixture) settle(t *testing.T, gid string, s State) {
	t.Helper()
	if done, err := d.recordEnd(context.Background(), newView(gid, s), 7); !done || err != nil {
		t.Fatal(done, err)
	}
}

// TestASignatureAllowsWhatTheStateAllows: a signed call that nobody has made yet reaches the service only in the state
// in which the coordinator makes it; whoever reads it there gets nothing by it before and after.
func TestASignatureAllowsWhatTheStateAllows(t *testing.T) {
	for _, c := range []struct {
		name        string
		record      string // delegated, succeeded, failed, resolved, other; empty: none
		coordinator string // empty: does not know the gid; down
		do, undo    int
	}{
		{"running", "delegated", "submitted", 200, 409},
		{"rolling back", "delegated", "aborting", 409, 200},
		{"succeeded, and the record does not know", "delegated", "succeed", 409, 409},
		{"failed, and the record does not know", "delegated", "failed", 409, 409},
		{"succeeded", "succeeded", "succeed", 409, 409},
		{"succeeded, the coordinator is away", "succeeded", "down", 409, 409},
		{"failed", "failed", "failed", 409, 409},
		{"failed, the coordinator is away", "failed", "down", 409, 425},
		{"ended as never submitted, and the submit arrives late", "failed", "aborting", 409, 200},
		{"ended as never submitted, and the submit runs", "failed", "submitted", 409, 409},
		{"resolved by an operator", "resolved", "succeed", 409, 409},
		{"resolved by an operator, and rolled back now", "resolved", "aborting", 409, 200},
		{"the key is of another transaction by now", "other", "succeed", 409, 409},
		{"the key is of another one, and this one is rolled back", "other", "aborting", 409, 200},
		{"no record", "", "submitted", 409, 409},
		{"no record, rolling back", "", "aborting", 409, 200},
		{"the coordinator is away", "delegated", "down", 425, 425},
		{"the coordinator has lost it", "delegated", "", 425, 425},
	} {
		for op, want := range map[string]int{opDo: c.do, opUndo: c.undo} {
			t.Run(c.name+", "+op, func(t *testing.T) {
				d := newFixture(t)
				calls := d.countCalls()
				g := gid('d')
				switch c.record {
				case "":
				case "other":
					d.delegate(t, g[:idempotency.IDLength]+"00000000")
				default:
					d.delegate(t, g)
				}
				switch c.record {
				case "succeeded":
					d.settle(t, g, Succeeded)
				case "failed":
					d.settle(t, g, Failed)
				case "resolved":
					response := d.codec.Append(nil, recordOf(g), &idempotency.Response{Status: 200, Body: []byte("{}")})
					if ok, err := d.store.Resolve(t.Context(), recordOf(g), response, true); err != nil || !ok {
						t.Fatal(ok, err)
					}
				}
				switch c.coordinator {
				case "":
				case "down":
					down := httptest.NewServer(nil)
					down.Close()
					store := d.store
					d.open(t, down.URL)
					d.store = store
				default:
					d.setState(g, c.coordinator)
				}
				for range 2 {
					if got := d.branch(t, d.url(t, g, op, bothCalls), dtmOp[op], bothCalls); got != want {
						t.Fatalf("status %d, want %d", got, want)
					}
				}
				if made := *calls == 1; made != (want == 200) || *calls > 1 {
					t.Errorf("the service was called %d times for a %d", *calls, want)
				}
			})
		}
	}
}

// TestARecordedEndIsGivenInEveryState: the coordinator whose response was lost gets it again, also when the transaction
// has ended by then, and no service is called.
func TestARecordedEndIsGivenInEveryState(t *testing.T) {
	for op, states := range map[string][]string{
		opDo:   {"submitted", "aborting", "succeed", "failed"},
		opUndo: {"aborting", "failed"},
	} {
		d := newFixture(t)
		calls := d.countCalls()
		g := gid('d')
		d.delegate(t, g)
		for i, state := range states {
			d.setState(g, state)
			if i == len(states)-1 {
				d.settle(t, g, Failed)
			}
			if got := d.branch(t, d.url(t, g, op, bothCalls), dtmOp[op], bothCalls); got != 200 || *calls != 1 {
				t.Errorf("%s in state %s: %d, %d calls", op, state, got, *calls)
			}
		}
	}
}

// TestNoUndoWhileItsDoIsUnderWay: the coordinator is told to come again until the do has ended, or its claim is over.
func TestNoUndoWhileItsDoIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		g, release := gid('d'), make(chan struct{})
		var paths []string
		d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
			if x.Path == "/do" {
				<-release
			}
			paths = append(paths, x.Path)
			return 200, "", filters.Completed
		}
		d.delegate(t, g)
		d.setState(g, "submitted")
		if got := d.branch(t, d.url(t, g, opDo, bothCalls), "action", bothCalls); got != 425 {
			t.Fatalf("the do: %d", got)
		}
		d.setState(g, "aborting")
		undo := func() int { return d.branch(t, d.url(t, g, opUndo, bothCalls), "compensate", bothCalls) }
		if got := undo(); got != 425 {
			t.Errorf("an undo while the do is under way: %d", got)
		}
		close(release)
		if err := d.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := undo(); got != 200 || len(paths) != 2 || paths[1] != "/undo" {
			t.Errorf("after it: %d, %v", got, paths)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a do of a gateway that died
		d := &fixture{known: map[string]string{}}
		d.openInMemory(t)
		calls := d.countCalls()
		g := gid('d')
		d.setState(g, "aborting")
		_, claimed, err := d.store.Claim(t.Context(), idempotency.ClaimRequest{ID: branchRecord(g, "pay", opDo), Token: 9,
			Route: "checkout/branch", Lease: 10 * time.Second, Cap: 10 * time.Second, TTL: time.Hour, Retry: true})
		if err != nil || !claimed {
			t.Fatal(claimed, err)
		}
		undo := func() int { return d.branch(t, d.url(t, g, opUndo, bothCalls), "compensate", bothCalls) }
		if got := undo(); got != 425 || *calls != 0 {
			t.Errorf("while the claim stands: %d", got)
		}
		time.Sleep(11 * time.Second)
		if got := undo(); got != 200 || *calls != 1 {
			t.Errorf("after it: %d", got)
		}
	})
}

// TestARefusedDoIsNotUndone: the service has said that it did nothing, so the gateway answers for the undo; a do
// whose outcome is not known, or that was never called, is undone.
func TestARefusedDoIsNotUndone(t *testing.T) {
	payload := []byte(strings.Replace(string(bothCalls), `"do":`, `"failOn":[[402,402]],"do":`, 1))
	for name, c := range map[string]struct {
		do    int // the service's status; 0: it is not called
		undos int
	}{
		"refused":            {402, 0},
		"done":               {200, 1},
		"not known":          {500, 1},
		"never called":       {0, 1},
		"refused by no rule": {409, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFixture(t)
			undos := 0
			d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
				if x.Call == filters.UndoCall {
					undos++
					return 200, "", filters.Completed
				}
				return c.do, "", filters.Completed
			}
			g := gid('d')
			d.delegate(t, g)
			if c.do != 0 {
				d.setState(g, "submitted")
				d.branch(t, d.url(t, g, opDo, payload), "action", payload)
			}
			d.setState(g, "aborting")
			for range 2 {
				if got := d.branch(t, d.url(t, g, opUndo, payload), "compensate", payload); got != 200 {
					t.Errorf("undo: %d", got)
				}
			}
			if undos != c.undos {
				t.Errorf("%d undos were sent, want %d", undos, c.undos)
			}
		})
	}
}

// TestADoThatWasRefusedAfterAnUnknownAttemptIsUndone: the first attempt may have been executed, or may be yet. A
// service says 409 also because that one still runs.
func TestADoThatWasRefusedAfterAnUnknownAttemptIsUndone(t *testing.T) {
	payload := []byte(strings.Replace(string(bothCalls), `"do":`, `"failOn":[[409,409]],"do":`, 1))
	for _, away := range []bool{false, true} { // the store, when the refusal is to be written
		synctest.Test(t, func(t *testing.T) {
			d := &fixture{known: map[string]string{}}
			d.openInMemory(t)
			store := &awayStore{Store: d.store}
			d.store = store
			attempts, undos := 0, 0
			d.service = func(_ string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
				switch {
				case x.Call == filters.UndoCall:
					undos++
					return 200, "", filters.Completed
				case attempts == 0:
					attempts++
					return 0, "", filters.NoResponse
				}
				attempts++
				store.away.Store(away)
				return 409, "", filters.Completed
			}
			g := gid('d')
			d.delegate(t, g)
			d.setState(g, "submitted")
			do := d.url(t, g, opDo, payload)
			if first, second := d.branch(t, do, "action", payload), d.branch(t, do, "action", payload); first != 425 ||
				second != 409 || attempts != 2 {
				t.Fatalf("do: %d, then %d, %d attempts", first, second, attempts)
			}
			d.setState(g, "aborting")
			d.branch(t, d.url(t, g, opUndo, payload), "compensate", payload)
			store.away.Store(false)
			if undos != 1 {
				t.Errorf("%d undos were sent, want 1", undos)
			}
			time.Sleep(10 * time.Second)
		})
	}
}

// Two passes of the coordinator run at once: one has begun the second step, the other one finds the time over and
// undoes the first step, all that it knows. That has to wait for the second step's undo, or the coordinator would
// call the transaction failed with the second step done.
func TestUndoWaitsForWhatIsBehind(t *testing.T) {
	d := newFixture(t)
	var sent []string
	d.service = func(service string, x *filters.Exchange, _ []byte) (int, string, filters.Outcome) {
		sent = append(sent, service+" "+x.Inject.Get("Sluice-Op"))
		if service == "refusing" {
			return 402, "", filters.Completed
		}
		return 200, "", filters.Completed
	}
	payload := func(service string, behind ...string) []byte {
		call := &envelopeCall{Service: service, Method: "POST", Path: "/"}
		text, err := json.Marshal(envelope{Route: "checkout", Do: call, Undo: call, Behind: behind,
			FailOn: [][2]int{{402, 402}}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	key, err := d.signingKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := gid('a')
	d.delegate(t, g)
	call := func(step, op, id string, payload []byte, want int) {
		t.Helper()
		u, err := url.Parse(branch{g, step, op, id}.url("http://gateway.test", key, payload))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", u.Path+"?gid="+g+"&branch_id="+id+"&op="+dtmOp[op], bytes.NewReader(payload))
		w := httptest.NewRecorder()
		if d.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s of %s: %d, want %d; sent %v", op, step, w.Code, want, sent)
		}
	}
	first := payload("stock", "order", "pay", "ship")
	d.setState(g, "submitted")
	call("reserve", opDo, "01", first, 200)
	call("order", opDo, "02", payload("order"), 200)
	call("pay", opDo, "03", payload("refusing"), 409) // there is nothing of it to undo; ship was not called
	d.setState(g, "aborting")
	call("reserve", opUndo, "01", first, 425)
	call("order", opUndo, "02", payload("order"), 200)
	call("reserve", opUndo, "01", first, 200)
	want := []string{"stock action", "order action", "refusing action", "order compensate", "stock compensate"}
	if !slices.Equal(sent, want) {
		t.Errorf("sent %v, want %v", sent, want)
	}
}

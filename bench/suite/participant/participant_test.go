package participant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

var errSoldOut = errors.New("sold out")

func testBarrier(t *testing.T, b *backend) {
	type call struct {
		op     string
		refuse bool
		want   participant.Result
	}
	db := b.open(t)
	for number, c := range []struct {
		name    string
		calls   []call
		effects map[string]int
	}{
		{"once", []call{{"action", false, participant.Executed}}, map[string]int{"action": 1}},
		{"repeated action", []call{{"action", false, participant.Executed}, {"action", false, participant.Repeated}},
			map[string]int{"action": 1}},
		{"undone once", []call{{"action", false, participant.Executed}, {"compensate", false, participant.Executed},
			{"compensate", false, participant.Repeated}},
			map[string]int{"action": 1, "compensate": 1}},
		{"empty compensation",
			[]call{{"compensate", false, participant.Empty},
				{"compensate", false, participant.Repeated}}, map[string]int{"compensate": 0}},
		{"late action", []call{{"compensate", false, participant.Empty}, {"action", false, participant.TooLate},
			{"action", false, participant.TooLate}}, map[string]int{"action": 0}},
		{"refused action is not done",
			[]call{{"action", true, 0}, {"compensate", false, participant.Empty},
				{"action", false, participant.TooLate}},
			map[string]int{"action": 0, "compensate": 0}},
		{"refused, then done", []call{{"action", true, 0}, {"action", false, participant.Executed}},
			map[string]int{"action": 1}},
		{"failed compensation is repeated",
			[]call{{"action", false, participant.Executed}, {"compensate", true, 0},
				{"compensate", false, participant.Executed}},
			map[string]int{"action": 1, "compensate": 1}},
		{"action after a real compensation",
			[]call{{"action", false, participant.Executed}, {"compensate", false, participant.Executed},
				{"action", false, participant.Repeated}},
			map[string]int{"action": 1, "compensate": 1}},
		{"tcc", []call{{"try", false, participant.Executed}, {"cancel", false, participant.Executed},
			{"confirm", false, participant.Executed}},
			map[string]int{"try": 1, "cancel": 1, "confirm": 1}},
		{"tcc late try", []call{{"cancel", false, participant.Empty}, {"try", false, participant.TooLate}},
			map[string]int{"try": 0}},
		{"rollback undoes an action",
			[]call{{"rollback", false, participant.Empty},
				{"action", false, participant.TooLate}}, map[string]int{"action": 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			gid := fmt.Sprintf("gid%09d", number)
			for i, call := range c.calls {
				bar := participant.Barrier{TransType: "saga", GID: gid, BranchID: "01", Op: call.op, Dialect: b.dialect}
				got, err := bar.Call(context.Background(), db, func(tx *sql.Tx) error {
					if err := write(gid + call.op)(tx); err != nil {
						return err
					}
					if call.refuse {
						return errSoldOut
					}
					return nil
				})
				if call.refuse != errors.Is(err, errSoldOut) || !call.refuse && err != nil || got != call.want {
					t.Errorf("call %d, %s: %v, %v; want %v", i, call.op, got, err, call.want)
				}
			}
			for name, want := range c.effects {
				if got := effects(t, db, gid+name); got != want {
					t.Errorf("%s took effect %d times, want %d", name, got, want)
				}
			}
		})
	}
}

// The primary of a message and the query for it, in every order, and in a race: what the query said
// stays so.
func testQuery(t *testing.T, b *backend) {
	db := b.open(t)
	do := func(gid string) (participant.Result, error) {
		bar := participant.Barrier{TransType: "msg", GID: gid, BranchID: "00", Op: "msg", Dialect: b.dialect}
		return bar.Call(t.Context(), db, write(gid))
	}
	g := &participant.Guard{DB: db, Dialect: b.dialect, LookupWait: 20 * time.Second,
		Log: slog.New(slog.DiscardHandler)}
	query := func(gid string, direct bool) int {
		r := httptest.NewRequest("GET", "/x?gid="+gid+"&trans_type=msg&branch_id=00&op=msg", nil)
		if !direct {
			r.Header.Set(participant.HeaderTransaction, gid)
			r.Header.Set(participant.HeaderBranch, "00")
			r.Header.Set(participant.HeaderOp, "msg")
		}
		w := httptest.NewRecorder()
		g.QueryHandler().ServeHTTP(w, r)
		return w.Code
	}
	for i, direct := range []bool{false, true} {
		first, second := fmt.Sprint("query0000", i), fmt.Sprint("query1000", i)
		if got, err := do(first); got != participant.Executed || err != nil {
			t.Errorf("%v, %v", got, err)
		}
		want := map[bool]int{false: 404, true: 409}[direct]
		if got, again := query(first, direct), query(first, direct); got != 200 || again != 200 {
			t.Errorf("done: %d, then %d; want 200", got, again)
		}
		if got, again := query(second, direct), query(second, direct); got != want || again != want {
			t.Errorf("not done: %d, then %d; want %d", got, again, want)
		}
		if got, err := do(second); got != participant.TooLate || err != nil || effects(t, db, second) != 0 {
			t.Errorf("after the query: %v, %v, %d effects", got, err, effects(t, db, second))
		}
	}
	for i := range 20 {
		gid := fmt.Sprintf("queryrace%03d", i)
		var wg sync.WaitGroup
		var said atomic.Int32
		wg.Go(func() { said.Store(int32(query(gid, false))) })
		wg.Go(func() {
			if _, err := do(gid); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if n := effects(t, db, gid); n != map[int32]int{200: 1, 404: 0}[said.Load()] || said.Load() == 503 {
			t.Errorf("%s: the query said %d, %d effects", gid, said.Load(), n)
		}
	}
	if got := query("", true); got != 400 {
		t.Errorf("no branch: %d", got)
	}
	db.Close()
	if got := query("query00000", false); got != 503 {
		t.Errorf("no database: %d, want 503", got)
	}
}

func testBarrierSeparatesBranches(t *testing.T, b *backend) {
	db := b.open(t)
	for _, bar := range []participant.Barrier{
		{GID: "a", BranchID: "01", Op: "action"}, {GID: "a", BranchID: "02", Op: "action"}, {GID: "b", BranchID: "01",
			Op: "action"},
		{GID: "A", BranchID: "01", Op: "action"}, {GID: "a ", BranchID: "01", Op: "action"}, {GID: "ä", BranchID: "01",
			Op: "action"},
	} {
		bar.Dialect = b.dialect
		if got, err := bar.Call(context.Background(), db, write("x")); got != participant.Executed || err != nil {
			t.Errorf("%+v: %v, %v", bar, got, err)
		}
	}
}

func testBarrierPanicRollsBack(t *testing.T, b *backend) {
	db := b.open(t)
	bar := participant.Barrier{GID: "a", BranchID: "01", Op: "action", Dialect: b.dialect}
	func() {
		defer func() { recover() }()
		bar.Call(context.Background(), db, func(tx *sql.Tx) error { write("x")(tx); panic("bug") })
	}()
	if n := effects(t, db, "x"); n != 0 {
		t.Fatalf("%d effects after a panic", n)
	}
	if got, err := bar.Call(context.Background(), db, write("x")); got != participant.Executed || err != nil {
		t.Errorf("after the panic: %v, %v", got, err)
	}
}

// An action and its compensation in a race end in one of two ways: done and undone, or never done.
func testBarrierRace(t *testing.T, b *backend) {
	db := b.open(t)
	for i := range 20 {
		gid := fmt.Sprintf("race%08d", i)
		var wg sync.WaitGroup
		for _, op := range []string{"action", "compensate", "action", "compensate"} {
			wg.Go(func() {
				bar := participant.Barrier{GID: gid, BranchID: "01", Op: op, Dialect: b.dialect}
				if _, err := bar.Call(context.Background(), db, write(gid+op)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		done, undone := effects(t, db, gid+"action"), effects(t, db, gid+"compensate")
		if done != undone || done > 1 {
			t.Errorf("%s: done %d times, undone %d times", gid, done, undone)
		}
	}
}

func testDo(t *testing.T, b *backend) {
	db := b.open(t)
	type call struct {
		attempt  int
		status   int // of the effect's response if it runs; 0 is an error
		want     int
		replayed bool
	}
	for number, c := range []struct {
		name    string
		calls   []call
		effects int
	}{
		{"replay", []call{{1, 201, 201, false}, {2, 500, 201, true}, {1, 500, 201, true}}, 1},
		{"refusal is replayed to a later attempt", []call{{1, 402, 402, false}, {2, 201, 402, true}}, 0},
		{"refusal is done again as a first attempt",
			[]call{{1, 402, 402, false}, {1, 201, 201, false}, {2, 500, 201, true}}, 1},
		{"refusal of a later attempt is replayed to a first one that is late",
			[]call{{2, 402, 402, false}, {1, 201, 402, true}, {2, 201, 402, true}}, 0},
		{"redirect is an effect", []call{{1, 303, 303, false}, {1, 201, 303, true}}, 1},
		{"error leaves nothing", []call{{1, 0, 0, false}, {2, 201, 201, false}}, 1},
		{"busy leaves nothing",
			[]call{{1, 503, 503, false}, {1, 429, 429, false}, {2, 425, 425, false}, {2, 408, 408, false},
				{2, 201, 201, false}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &participant.Guard{DB: db, Dialect: b.dialect}
			key := fmt.Sprintf("do%d", number)
			for i, call := range c.calls {
				body := fmt.Sprintf("response of call %d", i)
				a, err := g.Do(context.Background(), keyed(key, call.attempt),
					func(tx *sql.Tx) (participant.Response, error) {
						if err := write(key)(tx); err != nil {
							return participant.Response{}, err
						}
						if call.status == 0 {
							return participant.Response{}, errSoldOut
						}
						return participant.Response{Status: call.status, Header: http.Header{"Location": {"/x"}},
							Body: []byte(body)}, nil
					})
				if (err != nil) != (call.want == 0) || a.Status != call.want || a.Replayed != call.replayed {
					t.Fatalf("call %d: %+v, %v; want %d, replayed %v", i, a, err, call.want, call.replayed)
				}
				if err == nil && (a.Header.Get("Location") != "/x" || !a.Replayed && string(a.Body) != body ||
					a.Replayed && string(a.Body) == body) {
					t.Errorf("call %d: %+v", i, a)
				}
			}
			if n := effects(t, g.DB, key); n != c.effects {
				t.Errorf("%d effects, want %d", n, c.effects)
			}
		})
	}
}

func testConcurrentRepeats(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	var ran, replayed atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			a, err := g.Do(context.Background(), keyed("one", i+1), func(tx *sql.Tx) (participant.Response, error) {
				ran.Add(1) // by the first, and again should it lose against the others
				return participant.Response{Status: 201, Body: []byte("number 1")}, write("one")(tx)
			})
			if err != nil || a.Status != 201 || string(a.Body) != "number 1" {
				t.Errorf("%+v, %v", a, err)
			}
			if a.Replayed {
				replayed.Add(1)
			}
		})
	}
	wg.Wait()
	if ran.Load() < 1 || replayed.Load() != 31 || effects(t, g.DB, "one") != 1 {
		t.Errorf("ran %d, replayed %d, effects %d; want 1 or a few, 31, 1", ran.Load(), replayed.Load(),
			effects(t, g.DB, "one"))
	}
}

func testForget(t *testing.T, b *backend) {
	now := time.Unix(1000, 0)
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect, Now: func() time.Time { return now }}
	do := func() bool {
		a, err := g.Do(context.Background(), keyed("k", 2),
			func(tx *sql.Tx) (participant.Response, error) { return participant.Response{Status: 200}, nil })
		if err != nil {
			t.Fatal(err)
		}
		return a.Replayed
	}
	do()
	if n, err := g.Forget(context.Background(), now); n != 0 || err != nil || !do() {
		t.Errorf("forgot %d, %v, what is not older", n, err)
	}
	if n, err := g.Forget(context.Background(), now.Add(time.Second)); n != 1 || err != nil || do() {
		t.Errorf("forgot %d, %v; want 1", n, err)
	}
}

func testHandler(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect, RequestBytesMax: 10, Log: slog.New(slog.DiscardHandler)}
	count := 0
	status := 201
	h := g.Handler(func(tx *sql.Tx, r *http.Request) (participant.Response, error) {
		if status == 0 {
			return participant.Response{}, errors.New("secret words")
		}
		count++
		return participant.JSON(status, map[string]int{"number": count}), write("h")(tx)
	})
	send := func(query string, header map[string]string, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/v1/x"+query, strings.NewReader(body))
		for k, v := range header {
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	check := func(name string, w *httptest.ResponseRecorder, wantStatus int, wantBody string) {
		t.Helper()
		if w.Code != wantStatus || strings.TrimSpace(w.Body.String()) != wantBody {
			t.Errorf("%s: %d %s; want %d %s", name, w.Code, w.Body, wantStatus, wantBody)
		}
	}
	check("plain", send("", nil, ""), 201, `{"number":1}`)
	check("plain again", send("", nil, ""), 201, `{"number":2}`)
	keyed := map[string]string{participant.HeaderKey: "k1", participant.HeaderAttempt: "1"}
	check("keyed", send("", keyed, ""), 201, `{"number":3}`)
	keyed[participant.HeaderAttempt] = "2"
	check("second attempt", send("", keyed, ""), 201, `{"number":3}`)
	check("bad attempt", send("", map[string]string{participant.HeaderKey: "k1", participant.HeaderAttempt: "0"}, ""),
		400, `{"reason":"key-invalid"}`)
	check("long body", send("", nil, "12345678901"), 413, `{"reason":"body-too-large"}`)
	branch := "?gid=gid000000001&branch_id=01&trans_type=saga&op="
	check("branch", send(branch+"action", nil, ""), 201, `{"number":4}`)
	check("branch again", send(branch+"action", nil, ""), 201, `{"number":4}`)
	check("undone", send(branch+"compensate", nil, ""), 201, `{"number":5}`)
	other := "?gid=gid000000002&branch_id=01&trans_type=saga&op="
	check("empty", send(other+"compensate", nil, ""), 200, `{"result":"nothing to undo"}`)
	check("too late", send(other+"action", nil, ""), 409, `{"reason":"too-late"}`)
	check("half a branch", send("?gid=gid000000002", nil, ""), 400, `{"reason":"branch-invalid"}`)
	before := effects(t, g.DB, "h")
	status = 409
	third := "?gid=gid000000003&branch_id=01&trans_type=saga&op="
	check("refused branch", send(third+"action", nil, ""), 409, `{"number":6}`)
	status = 0
	check("error", send(third+"action", nil, ""), 500, `{"reason":"internal-error"}`)
	status = 201
	check("undo of a refused one", send(third+"compensate", nil, ""), 200, `{"result":"nothing to undo"}`)
	if n := effects(t, g.DB, "h"); n != before {
		t.Errorf("%d effects of refused and failed branches", n-before)
	}
}

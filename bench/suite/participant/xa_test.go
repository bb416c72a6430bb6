package participant_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// breaking is a database whose connection breaks at its nth statement, before the server has it or
// before the client has the result.
type breaking struct {
	under *sql.DB // keeps no idle connections: what is closed is closed
	at    atomic.Int32
	after atomic.Bool
	count atomic.Int32
}

func (b *breaking) Connect(ctx context.Context) (driver.Conn, error) {
	held, err := b.under.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &breakingConn{breaking: b, held: held}
	err = held.Raw(func(raw any) error { c.Conn = raw.(driver.Conn); return nil })
	return c, err
}

func (b *breaking) Driver() driver.Driver { return b.under.Driver() }

type breakingConn struct {
	driver.Conn
	breaking *breaking
	held     *sql.Conn
	broken   bool
}

func (c *breakingConn) Close() error {
	if c.broken {
		return nil
	}
	return c.held.Close()
}

func (c *breakingConn) IsValid() bool { return !c.broken }

var errBroken = errors.New("connection broken")

// statement runs one, unless the connection is broken or breaks now.
func (c *breakingConn) statement(run func() error) error {
	if c.broken {
		return errBroken
	}
	n := c.breaking.count.Add(1)
	if n != c.breaking.at.Load() {
		return run()
	}
	var err error
	if c.breaking.after.Load() {
		err = run()
	}
	c.broken = true
	return errors.Join(errBroken, err, c.held.Close())
}

func (c *breakingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (
	r driver.Result, err error,
) {
	err = c.statement(func() (err error) {
		r, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
		return err
	})
	return r, err
}

func (c *breakingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (
	rows driver.Rows, err error,
) {
	err = c.statement(func() (err error) {
		rows, err = c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
		return err
	})
	return rows, err
}

func (c *breakingConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

// registry plays a coordinator that takes branches, once each, as long as it is open.
type registry struct {
	*httptest.Server
	mu     sync.Mutex
	known  map[string]bool
	closed bool
}

func newRegistry(t *testing.T) *registry {
	r := &registry{known: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case q.URL.Path != "/api/dtmsvr/registerBranch":
			t.Errorf("request to %s", q.URL)
		case r.closed:
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"message":"no trans with gid found. FAILURE"}`)
		case r.known[string(body)]:
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"message":"storage: UniqueKeyConflict"}`)
		}
		r.known[string(body)] = true
	}))
	t.Cleanup(r.Close)
	return r
}

// xaShop is a resource of XA transactions with one table of effects.
type xaShop struct {
	*participant.XA
	plain *sql.DB // without faults
	at    *registry
}

func newXAShop(t *testing.T, server *sqltest.Server) (*xaShop, *breaking) {
	t.Helper()
	b := &backend{dialect: participant.MySQL, server: server}
	plain := b.open(t)
	under := &breaking{under: plain}
	plain.SetMaxIdleConns(0)
	db := sql.OpenDB(under)
	t.Cleanup(func() { db.Close() })
	return &xaShop{XA: &participant.XA{DB: db}, plain: plain, at: newRegistry(t)}, under
}

func (s *xaShop) call(t *testing.T, gid, op string) (participant.Result, error) {
	branch := participant.XABranch{
		Barrier: participant.Barrier{GID: gid, BranchID: "01", Op: op},
		DTM:     s.at.URL + "/api/dtmsvr", Phase2URL: "http://127.0.0.1:1/x",
	}
	return s.Call(t.Context(), branch, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(t.Context(), "INSERT INTO effect VALUES ('"+gid+"')")
		return err
	})
}

// until calls as a coordinator does, until it is not told to come again.
func (s *xaShop) until(t *testing.T, gid, op string) (participant.Result, error) {
	for deadline := time.Now().Add(3 * time.Minute); ; pause(t.Context()) {
		got, err := s.call(t, gid, op)
		if err == nil || errors.Is(err, participant.ErrXARefused) || errors.Is(err, participant.ErrXALost) ||
			time.Now().After(deadline) {
			return got, err
		}
	}
}

// prepared are the XA transactions that the server keeps and nobody has ended.
func prepared(t *testing.T, db *sql.DB, gid string) (n int) {
	t.Helper()
	rows, err := db.Query("XA RECOVER")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var format, gtrid, bqual int
		var data string
		if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(data, gid) {
			n++
		}
	}
	return n
}

func TestXA(t *testing.T) {
	t.Parallel()
	server := sqltest.MariaDB(t)
	t.Run("rules", func(t *testing.T) { t.Parallel(); testXARules(t, server) })
	t.Run("in flight", func(t *testing.T) { t.Parallel(); testXAInFlight(t, server) })
	t.Run("refused", func(t *testing.T) { t.Parallel(); testXARefused(t, server) })
	t.Run("broken connections", func(t *testing.T) { t.Parallel(); testXABroken(t, server) })
	t.Run("handler", func(t *testing.T) { t.Parallel(); testXAHandler(t, server) })
	t.Run("requests", func(t *testing.T) { t.Parallel(); testXARequests(t) })
}

func testXARules(t *testing.T, server *sqltest.Server) {
	s, _ := newXAShop(t, server)
	const executed, repeated, late = participant.Executed, participant.Repeated, participant.TooLate
	type call struct {
		op    string
		want  participant.Result
		fails error
	}
	for number, c := range []struct {
		name    string
		calls   []call
		effects int
	}{
		{"committed", []call{{"action", executed, nil}, {"commit", executed, nil}}, 1},
		{"all twice", []call{{"action", executed, nil}, {"action", repeated, nil}, {"commit", executed, nil},
			{"commit", executed, nil}, {"action", repeated, nil}}, 1},
		{"rolled back", []call{{"action", executed, nil}, {"rollback", executed, nil}, {"rollback", executed, nil},
			{"action", late, nil}}, 0},
		{"rolled back without a do", []call{{"rollback", executed, nil}, {"action", late, nil},
			{"rollback", executed, nil}}, 0},
		{"committed without a do", []call{{"commit", 0, participant.ErrXALost}}, 0},
		{"committed, then rolled back", []call{{"action", executed, nil}, {"commit", executed, nil},
			{"rollback", 0, participant.ErrXALost}}, 1},
		{"rolled back, then committed", []call{{"action", executed, nil}, {"rollback", executed, nil},
			{"commit", 0, participant.ErrXALost}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			gid := fmt.Sprintf("xarules%05d", number)
			for i, call := range c.calls {
				got, err := s.call(t, gid, call.op)
				if !errors.Is(err, call.fails) || (err == nil) != (call.fails == nil) ||
					err == nil && got != call.want {
					t.Errorf("call %d, %s: %v, %v; want %v, %v", i, call.op, got, err, call.want, call.fails)
				}
			}
			if n := effects(t, s.plain, gid); n != c.effects || prepared(t, s.plain, gid) != 0 {
				t.Errorf("%d effects, %d prepared; want %d and none", n, prepared(t, s.plain, gid), c.effects)
			}
		})
	}
}

// A do that is executing holds off its own repetition and its roll-back; then the roll-back wins.
func testXAInFlight(t *testing.T, server *sqltest.Server) {
	s, _ := newXAShop(t, server)
	const gid = "xaflight0001"
	began, goOn := make(chan struct{}), make(chan struct{})
	branch := participant.XABranch{Barrier: participant.Barrier{GID: gid, BranchID: "01", Op: "action"},
		DTM: s.at.URL + "/api/dtmsvr", Phase2URL: "http://127.0.0.1:1/x"}
	var first participant.Result
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		first, failed = s.Call(t.Context(), branch, func(conn *sql.Conn) error {
			close(began)
			<-goOn
			_, err := conn.ExecContext(t.Context(), "INSERT INTO effect VALUES ('"+gid+"')")
			return err
		})
	})
	<-began
	for _, op := range []string{"action", "rollback"} {
		if got, err := s.call(t, gid, op); !errors.Is(err, participant.ErrXAInFlight) {
			t.Errorf("%s beside it: %v, %v; want %v", op, got, err, participant.ErrXAInFlight)
		}
	}
	close(goOn)
	wg.Wait()
	if first != participant.Executed || failed != nil {
		t.Errorf("the do: %v, %v", first, failed)
	}
	if _, err := s.until(t, gid, "rollback"); err != nil {
		t.Error(err)
	}
	if n := effects(t, s.plain, gid); n != 0 || prepared(t, s.plain, gid) != 0 {
		t.Errorf("%d effects, %d prepared", n, prepared(t, s.plain, gid))
	}
}

// What the coordinator does not take is not prepared; nor is what the effect refuses, and that is
// not registered.
func testXARefused(t *testing.T, server *sqltest.Server) {
	s, _ := newXAShop(t, server)
	s.at.closed = true
	if got, err := s.call(t, "xarefused001", "action"); !errors.Is(err, participant.ErrXARefused) {
		t.Errorf("%v, %v; want %v", got, err, participant.ErrXARefused)
	}
	s.at.closed = false
	s.at.known = map[string]bool{}
	branch := participant.XABranch{Barrier: participant.Barrier{GID: "xarefused002", BranchID: "01", Op: "action"},
		DTM: s.at.URL + "/api/dtmsvr", Phase2URL: "http://127.0.0.1:1/x"}
	if _, err := s.Call(t.Context(), branch, func(*sql.Conn) error { return errSoldOut }); !errors.Is(err, errSoldOut) {
		t.Errorf("%v, want %v", err, errSoldOut)
	}
	if len(s.at.known) != 0 {
		t.Errorf("what was refused is registered: %v", s.at.known)
	}
	for _, gid := range []string{"xarefused001", "xarefused002"} {
		if n := effects(t, s.plain, gid); n != 0 || prepared(t, s.plain, gid) != 0 {
			t.Errorf("%s: %d effects, %d prepared", gid, n, prepared(t, s.plain, gid))
		}
		if got, err := s.until(t, gid, "action"); got != participant.Executed || err != nil { // it left nothing behind
			t.Errorf("%s again: %v, %v", gid, got, err)
		}
		if _, err := s.until(t, gid, "rollback"); err != nil {
			t.Error(err)
		}
	}
	s.at.Close()
	if _, err := s.call(t, "xarefused003", "action"); !participant.NothingDone(err) {
		t.Errorf("no coordinator: %v; want an error that says nothing was done", err)
	}
}

// The connection breaks at each statement of each course, before and after the server has it. A
// coordinator that calls again where it was not answered brings the branch to its end.
func testXABroken(t *testing.T, server *sqltest.Server) {
	for name, course := range map[string]struct {
		run     func(t *testing.T, s *xaShop, gid string)
		effects int
	}{
		"commit": {func(t *testing.T, s *xaShop, gid string) {
			for _, op := range []string{"action", "commit", "commit"} {
				if got, err := s.until(t, gid, op); err != nil || got == participant.TooLate {
					t.Errorf("%s: %s: %v, %v", gid, op, got, err)
				}
			}
		}, 1},
		"rollback": {func(t *testing.T, s *xaShop, gid string) {
			s.call(t, gid, "action") // its end is not known
			for _, op := range []string{"rollback", "rollback"} {
				if _, err := s.until(t, gid, op); err != nil {
					t.Errorf("%s: %s: %v", gid, op, err)
				}
			}
			if got, err := s.until(t, gid, "action"); got != participant.TooLate || err != nil {
				t.Errorf("%s: late do: %v, %v", gid, got, err)
			}
		}, 0},
		"rollback first": {func(t *testing.T, s *xaShop, gid string) {
			if _, err := s.until(t, gid, "rollback"); err != nil {
				t.Errorf("%s: %v", gid, err)
			}
			if got, err := s.until(t, gid, "action"); got != participant.TooLate || err != nil {
				t.Errorf("%s: late do: %v, %v", gid, got, err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, faults := newXAShop(t, server)
			broken := 0
			for at := 1; ; at++ {
				hit := false
				for _, after := range []bool{false, true} {
					gid := fmt.Sprintf("xa%c%c%03d%v", name[0], name[len(name)-1], at, after)
					faults.count.Store(0)
					faults.after.Store(after)
					faults.at.Store(int32(at))
					course.run(t, s, gid)
					if faults.count.Load() >= int32(at) {
						hit = true
						broken++
					}
					faults.at.Store(0)
					if n := effects(t, s.plain, gid); n != course.effects || prepared(t, s.plain, gid) != 0 {
						t.Errorf("broken at statement %d, after %v: %d effects, %d prepared; want %d and none",
							at, after, n, prepared(t, s.plain, gid), course.effects)
					}
				}
				if !hit {
					break
				}
			}
			if broken < 8 {
				t.Errorf("%d places where it breaks, which cannot be all", broken)
			}
		})
	}
}

func testXAHandler(t *testing.T, server *sqltest.Server) {
	s, _ := newXAShop(t, server)
	s.Log = slog.New(slog.DiscardHandler)
	s.RequestBytesMax = 100
	runs := 0
	h := s.Handler(func(conn *sql.Conn, r *http.Request) (participant.Response, error) {
		runs++
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) == "fail" {
			return participant.Response{}, errors.Join(err, errors.New("a fault"))
		}
		if string(body) == "card" {
			return participant.Refusal(http.StatusPaymentRequired, "card-declined"), nil
		}
		if _, err := conn.ExecContext(r.Context(), "INSERT INTO effect VALUES ('handler')"); err != nil {
			return participant.Response{}, err
		}
		return participant.JSON(http.StatusCreated, map[string]string{"paid": string(body)}), nil
	})
	post := func(gid, op, body string) *httptest.ResponseRecorder {
		q := url.Values{"gid": {gid}, "branch_id": {"01"}, "op": {op}, "trans_type": {"xa"},
			"dtm": {s.at.URL + "/api/dtmsvr"}, "phase2_url": {"http://127.0.0.1:1/x"}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/payments?"+q.Encode(), strings.NewReader(body)))
		return w
	}
	for i, c := range []struct {
		gid, op, body string
		status        int
		response      string
	}{
		{"xahandler001", "action", "5", 201, `{"paid":"5"}`},
		{"xahandler001", "action", "5", 200, `{"result":"done before"}`},
		{"xahandler001", "commit", "", 200, `{"result":"commit"}`},
		{"xahandler002", "action", "card", 402, `{"reason":"card-declined"}`},
		{"xahandler002", "rollback", "", 200, `{"result":"rollback"}`},
		{"xahandler002", "action", "5", 409, `{"reason":"too-late"}`},
		{"xahandler003", "action", "fail", 500, `{"reason":"internal-error"}`},
		{"xahandler003", "commit", "", 500, `{"reason":"internal-error"}`},
		{"xahandler003", "action", strings.Repeat("x", 101), 413, `{"reason":"body-too-large"}`},
		{"xa'handler04", "action", "5", 400, `{"reason":"branch-invalid"}`},
		{"", "", "5", 400, `{"reason":"branch-invalid"}`},
	} {
		if w := post(c.gid, c.op, c.body); w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.response {
			t.Errorf("call %d: %d %s, want %d %s", i, w.Code, w.Body, c.status, c.response)
		}
	}
	if n := effects(t, s.plain, "handler"); n != 1 || runs != 3 {
		t.Errorf("%d effects after %d runs, want 1 after 3", n, runs)
	}
	s.at.closed = true
	if w := post("xahandler005", "action", "5"); w.Code != 409 {
		t.Errorf("refused by the coordinator: %d", w.Code)
	}
	s.at.Close()
	if w := post("xahandler006", "action", "5"); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("no coordinator: %d", w.Code)
	}
}

// What an XA branch needs to be one, and where it may register.
func testXARequests(t *testing.T) {
	whole := url.Values{"gid": {"g0000001"}, "branch_id": {"01"}, "op": {"action"}, "trans_type": {"xa"},
		"dtm": {"http://127.0.0.1:1/api/dtmsvr"}, "phase2_url": {"http://127.0.0.1:1/x"}}
	for name, change := range map[string]func(q url.Values){
		"gid with a quote":  func(q url.Values) { q.Set("gid", "g' OR '1") },
		"branch with space": func(q url.Values) { q.Set("branch_id", "0 1") },
		"long gid":          func(q url.Values) { q.Set("gid", strings.Repeat("g", 62)) },
		"op of a saga":      func(q url.Values) { q.Set("op", "compensate") },
		"no coordinator":    func(q url.Values) { q.Del("dtm") },
		"no phase two":      func(q url.Values) { q.Del("phase2_url") },
	} {
		q := url.Values{}
		for k, v := range whole {
			q[k] = append([]string{}, v...)
		}
		change(q)
		r := httptest.NewRequest("POST", "/x?"+q.Encode(), nil)
		if _, ok, err := participant.XAFromRequest(r); !ok || err == nil {
			t.Errorf("%s: %v, %v; want an error", name, ok, err)
		}
	}
	b, ok, err := participant.XAFromRequest(httptest.NewRequest("POST", "/x?"+whole.Encode(), nil))
	if !ok || err != nil || b.DTM != "http://127.0.0.1:1/api/dtmsvr" || b.Phase2URL != "http://127.0.0.1:1/x" {
		t.Errorf("%+v, %v, %v", b, ok, err)
	}
	x := participant.XA{RegisterAt: []string{"http://gateway:8081/", "http://127.0.0.1:2/"}} // and no database
	for _, dtm := range []string{"http://127.0.0.1:1/api", "http://gateway:80", "file:///x", "gateway:8081"} {
		b.DTM = dtm
		if _, err := x.Call(t.Context(), b, nil); err == nil {
			t.Errorf("registers at %s", dtm)
		}
	}
	if _, ok, err := participant.XAFromRequest(httptest.NewRequest("POST", "/x", nil)); ok || err != nil {
		t.Errorf("no branch: %v, %v", ok, err)
	}
}

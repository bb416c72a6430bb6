package participant_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// The first ones of many at a time fail in every way there is; then one is done, once.
func testConcurrentFailures(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	var runs atomic.Int32
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			defer func() { recover() }()
			a, err := g.Do(context.Background(), keyed("f", 2), func(tx *sql.Tx) (participant.Response, error) {
				a, err := done("f")(tx)
				switch runs.Add(1) {
				case 1:
					return a, errSoldOut
				case 2:
					panic("bug")
				case 3:
					a.Status = 503
				}
				return a, err
			})
			if err != nil && !errors.Is(err, errSoldOut) || err == nil && a.Status != 201 && a.Status != 503 {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	wg.Wait()
	if n := effects(t, g.DB, "f"); n != 1 {
		t.Errorf("%d effects, want 1", n)
	}
}

// stateError is an error as the drivers of PostgreSQL have them.
type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func testConflicts(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect, Log: slog.New(slog.DiscardHandler)}
	for i, c := range []struct {
		err      error
		fails    int // so many runs
		wantRuns int
		status   int
	}{
		{stateError("40001"), 2, 3, 201},
		{stateError("40P01"), 1, 2, 201},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), 4, 5, 201},
		{stateError("40001"), 99, tries, 503},
		{stateError("23505"), 99, 1, 500},
		{errSoldOut, 99, 1, 500},
	} {
		name, runs := fmt.Sprint("conflict", i), 0
		h := g.Handler(func(tx *sql.Tx, r *http.Request) (participant.Response, error) {
			a, err := done(name)(tx)
			if runs++; runs <= c.fails {
				err = fmt.Errorf("shop: %w", c.err)
			}
			return a, err
		})
		r := httptest.NewRequest("POST", "/x", nil)
		r.Header.Set(participant.HeaderKey, name)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		want := 0
		if c.status == 201 {
			want = 1
		}
		if n := effects(t, g.DB, name); w.Code != c.status || runs != c.wantRuns || n != want {
			t.Errorf("%v: %d after %d runs, %d effects; want %d after %d, %d", c.err, w.Code, runs, n, c.status,
				c.wantRuns, want)
		}
	}
	g.DB.Close()
	r := httptest.NewRequest("POST", "/x", nil)
	r.Header.Set(participant.HeaderKey, "k")
	w := httptest.NewRecorder()
	if g.Handler(nil).ServeHTTP(w, r); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("no database: %d, want 503", w.Code)
	}
}

// Two effects that lock two rows crosswise are both done, once each: the database ends one of them,
// and it is run again.
func testDeadlock(t *testing.T, b *backend) {
	if b.server == nil {
		testBusy(t)
		return
	}
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	for _, s := range []string{"CREATE TABLE account (id INTEGER PRIMARY KEY, n INTEGER)",
		"INSERT INTO account VALUES (1, 0), (2, 0)"} {
		if _, err := g.DB.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	var first [2]sync.Once
	holding := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	var runs atomic.Int32
	var wg sync.WaitGroup
	for me := range 2 {
		wg.Go(func() {
			name := fmt.Sprint("deadlock", me)
			_, err := g.Do(context.Background(), keyed(name, 1), func(tx *sql.Tx) (participant.Response, error) {
				runs.Add(1)
				a, err := done(name)(tx)
				for i, id := range [2]int{1 + me, 2 - me} {
					if err == nil {
						_, err = tx.Exec(fmt.Sprintf("UPDATE account SET n = n + 1 WHERE id = %d", id))
					}
					if i == 0 {
						first[me].Do(func() { close(holding[me]) })
						<-holding[1-me]
					}
				}
				return a, err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var sum int
	if err := g.DB.QueryRow("SELECT SUM(n) FROM account").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != 4 || runs.Load() < 3 || effects(t, g.DB, "deadlock0")+effects(t, g.DB, "deadlock1") != 2 {
		t.Errorf("sum %d after %d runs; want 4 after at least 3", sum, runs.Load())
	}
}

// SQLite has no deadlocks but one writer: who does not get to write in time has done nothing, and a
// lookup knows nothing.
func testBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(1)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := participant.Setup(t.Context(), db, participant.SQLite); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	g := &participant.Guard{DB: db}
	if _, err := g.Do(t.Context(), keyed("k", 1), nil); !participant.NothingDone(err) {
		t.Errorf("%v; want a conflict", err)
	}
	r := httptest.NewRequest("GET", "/x", nil)
	r.Header.Set(participant.HeaderKey, "k")
	r.Header.Set(participant.HeaderAttempt, "1")
	w := httptest.NewRecorder()
	if g.ProbeHandler().ServeHTTP(w, r); w.Code != 409 {
		t.Errorf("lookup: %d %s; want 409", w.Code, w.Body)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

// An effect that passes over an error which ended its transaction is not answered as done.
func testPassedOverErrors(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	_, err := g.Do(t.Context(), keyed("k", 1), func(tx *sql.Tx) (participant.Response, error) {
		a, _ := done("k")(tx)
		switch b.dialect {
		case participant.MySQL:
			// As a deadlock does; with autocommit off, what follows is in a transaction all the same, see
			// PROTOCOL.md.
			tx.Exec("SET autocommit = 0")
			tx.Exec("ROLLBACK")
			a, _ = done("k")(tx)
		case participant.Postgres:
			tx.Exec("SELECT nonsense")
		default:
			tx.Rollback()
		}
		return a, nil
	})
	if n := effects(t, g.DB, "k"); err == nil || n != 0 {
		t.Errorf("%v, %d effects; want an error and none", err, n)
	}
	_, err = g.Do(t.Context(), keyed("k", 2), done("k"))
	if n := effects(t, g.DB, "k"); err != nil || n != 1 {
		t.Errorf("next attempt: %v, %d effects; want 1", err, n)
	}
}

// lossy is a database whose commits are not acknowledged: they happen, or they do not.
type lossy struct {
	under *sql.DB
	lose  atomic.Int32 // so many of the next commits
	after atomic.Bool  // they happen
}

func (l *lossy) Connect(ctx context.Context) (driver.Conn, error) {
	held, err := l.under.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &lossyConn{lossy: l, held: held}
	err = held.Raw(func(raw any) error { c.Conn = raw.(driver.Conn); return nil })
	return c, err
}

func (l *lossy) Driver() driver.Driver { return l.under.Driver() }

type lossyConn struct {
	driver.Conn
	lossy *lossy
	held  *sql.Conn
}

func (c *lossyConn) Close() error { return c.held.Close() }

func (c *lossyConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
	return &lossyTx{tx, c.lossy}, err
}

func (c *lossyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *lossyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *lossyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type lossyTx struct {
	driver.Tx
	lossy *lossy
}

func (tx *lossyTx) Commit() error {
	if tx.lossy.lose.Add(-1) < 0 {
		return tx.Tx.Commit()
	}
	end := tx.Tx.Rollback
	if tx.lossy.after.Load() {
		end = tx.Tx.Commit
	}
	return errors.Join(errors.New("acknowledgement lost"), end())
}

func testLostCommits(t *testing.T, b *backend) {
	l := &lossy{under: b.open(t)}
	db := sql.OpenDB(l)
	defer db.Close()
	g := &participant.Guard{DB: db, Dialect: b.dialect}
	runs := 0
	do := func(name string, attempt int) (participant.Response, error) {
		runs = 0
		return g.Do(t.Context(), keyed(name, attempt),
			func(tx *sql.Tx) (participant.Response, error) { runs++; return done(name)(tx) })
	}
	for i, c := range []struct {
		after    bool
		lose     int32
		fails    bool
		wantRuns int
	}{
		{true, 1, false, 1}, {true, 99, false, 1}, {false, 1, false, 2}, {false, 99, true, tries},
	} {
		for _, probes := range []bool{false, true} {
			name := fmt.Sprint("lost", i, probes)
			l.after.Store(c.after)
			l.lose.Store(c.lose)
			a, err := do(name, 1)
			if (err != nil) != c.fails || participant.NothingDone(err) || runs != c.wantRuns || err == nil &&
				a.Status != 201 {
				t.Errorf("%+v: %+v, %v after %d runs", c, a, err, runs)
			}
			if probes {
				l.lose.Store(1) // also of the lookup's own commit
				if _, found, err := g.Lookup(t.Context(), keyed(name, 1)); found == c.fails || err != nil {
					t.Errorf("%+v: found %v, %v", c, found, err)
				}
			}
			l.lose.Store(0)
			if a, err = do(name, 2); err != nil || a.Status != 201 || a.Replayed == c.fails {
				t.Errorf("%+v, next attempt: %+v, %v", c, a, err)
			}
			if n := effects(t, db, name); n != 1 {
				t.Errorf("%+v: %d effects, want 1", c, n)
			}
		}
	}
	// The commit's fate is not known, and then the database is gone: it must not be said that
	// nothing was done.
	l.after.Store(true)
	l.lose.Store(1)
	_, err := g.Do(t.Context(), keyed("gone", 1),
		func(tx *sql.Tx) (participant.Response, error) { go db.Close(); return done("gone")(tx) })
	if err != nil && participant.NothingDone(err) && effects(t, l.under, "gone") == 1 {
		t.Errorf("it was done, and the error says not: %v", err)
	}
}

// load is what gateways and clients do with many keys, and an audit of it.
type load struct {
	g     *participant.Guard
	runs  atomic.Int64
	acks  sync.Map // key → body of the answer
	spoil func(ctx context.Context) (context.Context, context.CancelFunc)
}

// run sends every key until it is answered. As a gateway it counts attempts up where the outcome is
// unknown, or asks first; now and then it does not wait for an attempt, which so comes late.
func (l *load) run(t *testing.T, keys, workers int) (wait func()) {
	next := make(chan string, keys)
	for i := range keys {
		next <- fmt.Sprintf("load%04d", i)
	}
	close(next)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for key := range next {
				l.settle(t, key, &wg)
			}
		})
	}
	return wg.Wait
}

func (l *load) settle(t *testing.T, key string, late *sync.WaitGroup) {
	attempt := 1
	for t.Context().Err() == nil {
		this := attempt
		if rand.IntN(5) == 0 {
			late.Go(func() { l.attempt(t, key, this) })
		} else {
			err := l.attempt(t, key, this)
			if err == nil {
				return
			}
			if participant.NothingDone(err) { // free: the same number again
				pause(t.Context())
				continue
			}
		}
		if rand.IntN(2) == 0 {
			if l.lookup(t, key, this) {
				return
			}
		}
		attempt++
	}
}

func (l *load) attempt(t *testing.T, key string, attempt int) error {
	ctx, cancel := l.spoil(context.Background())
	defer cancel()
	a, err := l.g.Do(ctx, keyed(key, attempt), func(tx *sql.Tx) (participant.Response, error) {
		return done(fmt.Sprint(key, "-", l.runs.Add(1)))(tx)
	})
	if err == nil {
		l.note(t, key, string(a.Body))
	}
	return err
}

func (l *load) lookup(t *testing.T, key string, attempt int) (found bool) {
	for t.Context().Err() == nil {
		a, found, err := l.g.Lookup(t.Context(), keyed(key, attempt))
		if err == nil {
			if found {
				l.note(t, key, string(a.Body))
			}
			return found
		}
		pause(t.Context())
	}
	return false
}

func (l *load) note(t *testing.T, key, body string) {
	if before, loaded := l.acks.LoadOrStore(key, body); loaded && before != body {
		t.Errorf("%s is answered %s and %s", key, before, body)
	}
}

// audit holds the ledger against the answers.
func (l *load) audit(t *testing.T, keys int) {
	t.Helper()
	rows, err := l.g.DB.Query("SELECT name FROM effect")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	ledger := map[string]string{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		key, _, _ := strings.Cut(name, "-")
		if ledger[key] != "" {
			t.Errorf("two effects: %s, %s", ledger[key], name)
		}
		ledger[key] = name
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	answered := 0
	l.acks.Range(func(key, body any) bool {
		answered++
		if ledger[key.(string)] != body {
			t.Errorf("%s was answered %s, the ledger has %q", key, body, ledger[key.(string)])
		}
		return true
	})
	if answered != keys || len(ledger) != keys {
		t.Errorf("%d keys answered, %d in the ledger, want %d", answered, len(ledger), keys)
	}
}

func testKilledConnections(t *testing.T, b *backend) {
	l := &load{g: &participant.Guard{DB: b.open(t), Dialect: b.dialect}, spoil: context.WithCancel}
	keys := 800
	if b.server == nil { // nothing to kill but contexts
		keys = 300
		l.spoil = func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, rand.N(30*time.Millisecond))
		}
	}
	over := make(chan struct{})
	var killed int
	var killer sync.WaitGroup
	wait := l.run(t, keys, 16)
	if b.server != nil {
		killer.Go(func() { killed = killConnections(t, b, l.g.DB, over) })
	}
	wait()
	close(over)
	killer.Wait()
	l.g.DB.SetMaxIdleConns(0) // none that was killed and not noticed
	l.audit(t, keys)
	if b.server != nil && killed == 0 {
		t.Error("nothing was killed")
	}
	t.Logf("%d connections killed, %d runs for %d keys", killed, l.runs.Load(), keys)
}

// killConnections ends sessions of the database at random until it is over.
func killConnections(t *testing.T, b *backend, db *sql.DB, over chan struct{}) (killed int) {
	list := "SELECT pid FROM pg_stat_activity " +
		"WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3"
	kill := "SELECT pg_terminate_backend(%d)"
	if b.dialect == participant.MySQL {
		list = "SELECT ID FROM information_schema.processlist " +
			"WHERE DB = DATABASE() AND ID <> CONNECTION_ID() ORDER BY RAND() LIMIT 3"
		kill = "KILL %d"
	}
	for {
		select {
		case <-over:
			return killed
		default:
		}
		conn, err := db.Conn(t.Context())
		if err != nil {
			continue // one of those that were killed
		}
		killed += killSome(t.Context(), conn, list, kill)
		conn.Close()
		pause(t.Context())
	}
}

func killSome(ctx context.Context, conn *sql.Conn, list, kill string) (killed int) {
	rows, err := conn.QueryContext(ctx, list)
	if err != nil {
		return 0
	}
	var ids []int
	for rows.Next() {
		var id int
		if rows.Scan(&id) == nil {
			ids = append(ids, id)
		}
	}
	rows.Close()
	for _, id := range ids {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf(kill, id)); err == nil {
			killed++
		}
	}
	return killed
}

// A server that is killed in the middle of the load has all that it acknowledged when it is back,
// and nothing twice.
func TestKilledServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect participant.Dialect
		start   func(testing.TB) *sqltest.Server
	}{{participant.MySQL, sqltest.MariaDB}, {participant.Postgres, sqltest.Postgres}} {
		t.Run(c.dialect.String(), func(t *testing.T) {
			t.Parallel()
			b := &backend{dialect: c.dialect, server: c.start(t)}
			l := &load{g: &participant.Guard{DB: b.open(t), Dialect: b.dialect}, spoil: context.WithCancel}
			const keys = 1000
			wait := l.run(t, keys, 8)
			for kill := range 3 {
				for seen := 0; seen < (kill+1)*keys/5 && t.Context().Err() == nil; time.Sleep(time.Millisecond) {
					seen = 0
					l.acks.Range(func(any, any) bool { seen++; return true })
				}
				b.server.Kill()
				b.server.Restart()
			}
			wait()
			l.g.DB.SetMaxIdleConns(0)
			l.audit(t, keys)
			t.Logf("%d runs for %d keys", l.runs.Load(), keys)
		})
	}
}

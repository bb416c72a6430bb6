// Package participant_test runs package participant on the databases that it has dialects for:
// SQLite in this process, MariaDB and PostgreSQL as real servers, which are killed too. It stands
// outside of the participant's module so that the drivers do not become requirements of every
// service that imports it.
package participant_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// What the package does not export.
const (
	tries       = 5    // runs of a transaction that loses against others each time
	forgetBatch = 1000 // rows that one statement of Forget deletes
)

// keyed is an attempt of the request with that key.
func keyed(value string, attempt int) participant.Key {
	return participant.Key{Value: value, Attempt: attempt}
}

// pause waits a random time before a request is sent again; it is over when the context is.
func pause(ctx context.Context) {
	timer := time.NewTimer(rand.N(10 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// backend is a database that the suite runs on.
type backend struct {
	dialect participant.Dialect
	server  *sqltest.Server // nil: SQLite
	strict  bool            // PostgreSQL: transactions are serializable
}

// open opens a database of its own for the test, with the tables, and one for effects.
func (b *backend) open(t *testing.T) *sql.DB {
	t.Helper()
	db := b.empty(t)
	for range 2 { // the second time the tables are there
		if err := participant.Setup(t.Context(), db, b.dialect); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("CREATE TABLE effect (name VARCHAR(100))"); err != nil {
		t.Fatal(err)
	}
	return db
}

func (b *backend) empty(t *testing.T) *sql.DB {
	t.Helper()
	if b.server != nil {
		db := b.server.Open(t)
		if b.strict {
			_, err := db.Exec("DO $$ BEGIN EXECUTE format(" +
				"'ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$")
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxIdleConns(0) // the setting is for new connections
		}
		db.SetMaxOpenConns(40)
		db.SetMaxIdleConns(40)
		return db
	}
	path := filepath.Join(t.TempDir(), "p.db")
	db, err := sql.Open("sqlite",
		"file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)"+
			"&_pragma=journal_mode(WAL)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// The names of effects are the tests' own, so that they need no placeholders, which differ.
func effects(t *testing.T, db *sql.DB, name string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT COUNT(*) FROM effect WHERE name = '" + name + "'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func write(name string) func(tx *sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO effect VALUES ('" + name + "')")
		return err
	}
}

// done is an effect of that name, answered by 201.
func done(name string) func(tx *sql.Tx) (participant.Response, error) {
	return func(tx *sql.Tx) (participant.Response, error) {
		return participant.Response{Status: 201, Body: []byte(name)}, write(name)(tx)
	}
}

var suite = []struct {
	name string
	test func(*testing.T, *backend)
}{
	{"tables", testTables},
	{"barrier", testBarrier},
	{"barrier separates branches", testBarrierSeparatesBranches},
	{"barrier panic", testBarrierPanicRollsBack},
	{"barrier race", testBarrierRace},
	{"query", testQuery},
	{"do", testDo},
	{"concurrent repeats", testConcurrentRepeats},
	{"concurrent failures", testConcurrentFailures},
	{"keys are bytes", testKeysAreBytes},
	{"forget", testForget},
	{"forget in batches", testForgetBatches},
	{"handler", testHandler},
	{"middleware", testMiddleware},
	{"middleware panic", testMiddlewarePanic},
	{"conflicts", testConflicts},
	{"deadlock", testDeadlock},
	{"passed over errors", testPassedOverErrors},
	{"lookup", testLookup},
	{"lookup of a running attempt", testLookupRunning},
	{"lookup race", testLookupRace},
	{"probe", testProbe},
	{"lost commits", testLostCommits},
	{"killed connections", testKilledConnections},
}

func runSuite(t *testing.T, b *backend) {
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t, b)
		})
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	runSuite(t, &backend{dialect: participant.SQLite})
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	runSuite(t, &backend{dialect: participant.MySQL, server: sqltest.MariaDB(t)})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := sqltest.Postgres(t)
	runSuite(t, &backend{dialect: participant.Postgres, server: server})
	for name, test := range map[string]func(*testing.T, *backend){
		"barrier race": testBarrierRace, "do": testDo, "concurrent repeats": testConcurrentRepeats,
		"lookup": testLookup, "lookup race": testLookupRace,
		"killed connections": testKilledConnections,
	} {
		t.Run(name+" serializable", func(t *testing.T) {
			t.Parallel()
			test(t, &backend{dialect: participant.Postgres, server: server, strict: true})
		})
	}
}

// The text of DDL runs as it is, statement by statement, and leaves an index to forget by.
func testTables(t *testing.T, b *backend) {
	db := b.empty(t)
	for statement := range strings.SplitSeq(participant.DDL(b.dialect), ";") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	query := map[participant.Dialect]string{
		participant.SQLite: "SELECT COUNT(*) FROM sqlite_master " +
			"WHERE type = 'index' AND name = 'keyed_answer_created'",
		participant.MySQL: "SELECT COUNT(*) FROM information_schema.statistics " +
			"WHERE table_schema = DATABASE() AND index_name = 'keyed_answer_created'",
		participant.Postgres: "SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'keyed_answer_created'",
	}[b.dialect]
	var n int
	if err := db.QueryRow(query).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d indexes, %v; want 1", n, err)
	}
	if err := participant.Setup(t.Context(), db, b.dialect); err != nil {
		t.Error(err)
	}
}

func testKeysAreBytes(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	for i, key := range []string{"k", "K", "k ", " k", "kä", "ka", "ka\u0308", strings.Repeat("k", 255),
		strings.Repeat("k", 254) + "K"} {
		a, err := g.Do(t.Context(), keyed(key, 1), done(fmt.Sprint("k", i)))
		if err != nil || a.Replayed {
			t.Errorf("key %q: %+v, %v", key, a, err)
		}
	}
}

func testForgetBatches(t *testing.T, b *backend) {
	g := &participant.Guard{DB: b.open(t), Dialect: b.dialect}
	const old = 2*forgetBatch + 7
	tx, err := g.DB.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range old + 1 {
		created := i
		if i == old {
			created = 1 << 50
		}
		_, err := tx.Exec(fmt.Sprintf("INSERT INTO keyed_answer (request_key, attempt, status, created) "+
			"VALUES ('k%d', 1, 201, %d)", i, created))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	n, err := g.Forget(t.Context(), time.Now())
	var left int
	if err := g.DB.QueryRow("SELECT COUNT(*) FROM keyed_answer").Scan(&left); err != nil {
		t.Fatal(err)
	}
	if n != old || err != nil || left != 1 {
		t.Errorf("forgot %d, %v, %d left; want %d, 1 left", n, err, left, old)
	}
}

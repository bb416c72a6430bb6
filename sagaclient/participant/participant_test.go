package participant

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

func TestFromRequest(t *testing.T) {
	t.Parallel()
	query := url.Values{"gid": {"g"}, "branch_id": {"01"}, "op": {"action"}, "trans_type": {"saga"}}
	long := url.Values{"gid": {strings.Repeat("g", 129)}, "branch_id": {"01"}, "op": {"action"}}
	header := http.Header{HeaderTransaction: {"g"}, HeaderBranch: {"01"}, HeaderOp: {"action"}}
	other := http.Header{HeaderTransaction: {"g"}, HeaderBranch: {"02"}, HeaderOp: {"action"}}
	for _, c := range []struct {
		name  string
		query url.Values
		head  http.Header
		ok    bool
		fails bool
	}{
		{"neither", nil, nil, false, false},
		{"query", query, nil, true, false},
		{"header", nil, header, true, false},
		{"both", query, header, true, false},
		{"they differ", query, other, true, true},
		{"no op", url.Values{"gid": {"g"}, "branch_id": {"01"}}, nil, true, true},
		{"long gid", long, nil, true, true},
	} {
		r := httptest.NewRequest("POST", "/x?"+c.query.Encode(), nil)
		for k, v := range c.head {
			r.Header[k] = v
		}
		b, ok, err := FromRequest(r)
		if ok != c.ok || (err != nil) != c.fails {
			t.Errorf("%s: %+v, %v, %v", c.name, b, ok, err)
		}
		if c.ok && !c.fails && (b.GID != "g" || b.BranchID != "01" || b.Op != "action") {
			t.Errorf("%s: %+v", c.name, b)
		}
	}
}

func TestDialects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		d              Dialect
		ignore, upsert string
	}{
		{SQLite, "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT (a) DO NOTHING",
			"INSERT INTO t (request_key, attempt, status, created) " +
				"VALUES (?, ?, ?, ?) ON CONFLICT (request_key) DO NOTHING"},
		{MySQL, "INSERT IGNORE INTO t (a, b) VALUES (?, ?)",
			"INSERT INTO t (request_key, attempt, status, created) " +
				"VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE request_key = request_key"},
		{Postgres, "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO NOTHING",
			"INSERT INTO t (request_key, attempt, status, created) " +
				"VALUES ($1, $2, $3, $4) ON CONFLICT (request_key) DO NOTHING"},
	} {
		if got := c.d.insertIgnore("t", "a, b", "a"); got != c.ignore {
			t.Errorf("%v: %s", c.d, got)
		}
		if got := c.d.upsert("t"); got != c.upsert {
			t.Errorf("%v: %s", c.d, got)
		}
		if ddl := DDL(c.d); strings.Count(ddl, "CREATE TABLE") != 2 ||
			!strings.Contains(ddl, "uniq_barrier UNIQUE (gid, branch_id, op, barrier_id)") {
			t.Errorf("%v: %s", c.d, ddl)
		}
	}
	description, err := os.ReadFile("PROTOCOL.md") // which other languages are written from
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(description)), " ")
	for _, d := range []Dialect{SQLite, MySQL, Postgres} {
		for _, statement := range append(statements(d), d.upsert(ResponseTable), d.deleteOld(ResponseTable)) {
			if !strings.Contains(text, strings.Join(strings.Fields(statement), " ")) {
				t.Errorf("PROTOCOL.md has not, for %v: %s", d, statement)
			}
		}
	}
}

// stateError is an error as the drivers of PostgreSQL have them, codeError as one of SQLite does.
type (
	stateError string
	codeError  int
)

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }
func (e codeError) Error() string     { return fmt.Sprint("code ", int(e)) }
func (e codeError) Code() int         { return int(e) }

func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{stateError("40001"), true}, {stateError("40P01"), true}, {stateError("55P03"), true},
		{stateError("23505"), false},
		{codeError(5), true}, {codeError(6), true}, {codeError(5 | 2<<8), true}, {codeError(19), false},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), true},
		{errors.New("Error 1205 (HY000): Lock wait timeout exceeded"), true},
		{errors.New("database is locked"), true},
		{errors.New("Error 1062 (23000): Duplicate entry"), false},
		{nil, false},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("shop: %w", err)
		}
		if conflict(err) != c.want || NothingDone(err) != c.want {
			t.Errorf("%v: conflict %v, nothing done %v; want %v", c.err, conflict(err), NothingDone(err), c.want)
		}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{ErrAbandoned, true},
		{&txError{err: errors.New("connection refused")}, true},
		{&txError{atCommit: true, err: errors.New("connection reset")}, false},
		{&txError{atCommit: true, err: stateError("40001")}, true},
		{errors.New("the effect's own"), false},
	} {
		if NothingDone(c.err) != c.want {
			t.Errorf("%v: nothing done %v, want %v", c.err, !c.want, c.want)
		}
	}
}

// A service that imports the module gets the standard library and nothing else.
func TestNoRequirements(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if line, _, _ = strings.Cut(line, "//"); strings.Contains(line, "require") ||
			strings.Contains(line, "replace") {
			t.Errorf("go.mod has %q, want a module and a go line only", line)
		}
	}
}

package integration_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dtm-labs/client/dtmcli"
	_ "github.com/go-sql-driver/mysql"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
)

// bank is a service with one account in a database of its own, which takes part in XA as DTM's client library does it.
type bank struct {
	t    *testing.T
	db   *sql.DB
	conf dtmcli.DBConf
	mu   sync.Mutex
	ops  []string
	dtm  string // where the last do could register its branch
	url  string // and its second phase
}

func startBank(t *testing.T, server *sqltest.Server) (*bank, *service) {
	b := &bank{t: t, db: server.Open(t)}
	host, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b.conf = dtmcli.DBConf{Driver: "mysql", Host: host, User: "root"}
	b.conf.Port, _ = strconv.ParseInt(port, 10, 64)
	if err := b.db.QueryRow("SELECT DATABASE()").Scan(&b.conf.Db); err != nil {
		t.Fatal(err)
	}
	b.exec("CREATE TABLE account (id INT PRIMARY KEY, balance INT) ENGINE=InnoDB")
	b.exec("INSERT INTO account VALUES (1, 100)")
	return b, startService(t, func(_ int, w http.ResponseWriter, r *http.Request) { b.serve(w, r) })
}

func (b *bank) exec(statement string) {
	b.t.Helper()
	if _, err := b.db.Exec(statement); err != nil {
		b.t.Fatal(err)
	}
}

// serve moves the amount in the path, which is refused below 0.
func (b *bank) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	b.mu.Lock()
	b.ops = append(b.ops, q.Get("op"))
	if q.Get("op") == "action" {
		b.dtm, b.url = q.Get("dtm"), q.Get("phase2_url")
	}
	b.mu.Unlock()
	amount := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	err := dtmcli.XaLocalTransaction(q, b.conf, func(db *sql.DB, _ *dtmcli.Xa) error {
		got, err := db.Exec("UPDATE account SET balance = balance + " + amount + " WHERE balance + " + amount + " >= 0")
		if err != nil {
			return err
		}
		if n, err := got.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, dtmcli.ErrFailure)
		}
		return nil
	})
	code, body := dtmcli.Result2HttpJSON(err)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func (b *bank) want(balance int, ops string) {
	b.t.Helper()
	var got int
	if err := b.db.QueryRow("SELECT balance FROM account").Scan(&got); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got != balance || strings.Join(b.ops, " ") != ops {
		b.t.Errorf("%s: balance %d, want %d; calls %v, want %s", b.conf.Db, got, balance, b.ops, ops)
	}
	b.ops = nil
}

const xaConfig = `version: 1
listen: {http: "@http@"}
admin: {address: "@admin@"}
store: {memory: {}}
services:
  from: {endpoints: ["%s"], timeout: 20s}
  to: {endpoints: ["%s"], timeout: 20s}
coordinator:
  dtm: {endpoints: ["%s"], branches: "@branches@", secret: "0123456789abcdef"}
routes:
  - name: transfer
    match: {methods: [POST], path: /transfers}
    idempotency: {required: true}
    transaction: transfer
    status: "/transfers/{id}"
transactions:
  transfer:
    mode: xa
    wait: 30s
    timeout: 40s
    retry: {every: 1s, max: 2s}
    steps:
      - {name: out, do: {service: from, path: "/move/-{body.amount}"}}
      - {name: in, do: {service: to, path: "/move/{body.amount}"}}
`

// TestXA: two databases commit together or not at all. The services use dtmcli as it is, and reach the coordinator
// through the gateway only.
func TestXA(t *testing.T) {
	t.Parallel()
	server := sqltest.MariaDB(t)
	admin := server.Open(t)
	for _, statement := range []string{"CREATE DATABASE dtm_barrier", `CREATE TABLE dtm_barrier.barrier (
		id BIGINT PRIMARY KEY AUTO_INCREMENT, trans_type VARCHAR(45), gid VARCHAR(128), branch_id VARCHAR(128),
		op VARCHAR(45), barrier_id VARCHAR(45), reason VARCHAR(45), create_time DATETIME DEFAULT now(),
		update_time DATETIME DEFAULT now(), UNIQUE KEY (gid, branch_id, op, barrier_id)) ENGINE=InnoDB`} {
		if _, err := admin.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	from, fromURL := startBank(t, server)
	to, toURL := startBank(t, server)
	coordinator := dtmtest.Start(t, dtmtest.Options{Args: []string{"--cron", "1s"}})
	gateway := harness.StartGateway(t, fmt.Sprintf(xaConfig, fromURL.URL, toURL.URL, coordinator.URL))
	transfer := func(key string, amount int) response {
		return send(t.Context(), http.MethodPost, gateway.URL+"/transfers", fmt.Sprintf(`{"amount":%d}`, amount),
			"Idempotency-Key", key)
	}

	a := transfer("x1", 30)
	if a.status != 200 || !strings.Contains(a.body,
		`[{"name":"out","state":"succeeded"},{"name":"in","state":"succeeded"}]`) {
		t.Fatal(a)
	}
	from.want(70, "action commit")
	to.want(130, "action commit")
	if again := transfer("x1", 30); again.body != a.body {
		t.Errorf("again: %v", again)
	}
	refused := transfer("x2", 71)
	if refused.status != 409 || refused.member("step") != "out" {
		t.Errorf("too much: %v", refused)
	}
	from.want(70, "action") // it was refused before it registered its branch
	to.want(130, "")

	to.exec("UPDATE account SET balance = -1000") // then the second step refuses
	if a := transfer("x3", 20); a.status != 409 || a.member("step") != "in" || !strings.Contains(a.body,
		`{"name":"out","state":"compensated"}`) {
		t.Errorf("the second refuses: %v", a)
	}
	from.want(70, "action rollback")
	to.want(-1000, "action")

	wantNarrow(t, from)
}

// wantNarrow checks that the address that a service registers at does that and nothing else.
func wantNarrow(t *testing.T, b *bank) {
	t.Helper()
	gid := strings.Split(b.dtm, "/")[4]
	post := func(target, body string) int {
		resp, err := http.Post(target, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	body := func(gid, branch, url string) string {
		return fmt.Sprintf(`{"gid":%q,"trans_type":"xa","branch_id":%q,"url":%q}`, gid, branch, url)
	}
	other := strings.Repeat("0", len(gid))
	for name, c := range map[string]struct {
		target, body string
		want         int
	}{
		"a transaction that has ended": {b.dtm + "/registerBranch", body(gid, "01", b.url), 409},
		"another branch":               {b.dtm + "/registerBranch", body(gid, "02", b.url), 403},
		"another transaction":          {b.dtm + "/registerBranch", body(other, "01", b.url), 403},
		"another second phase":         {b.dtm + "/registerBranch", body(gid, "01", "http://127.0.0.1:1/"), 403},
		"another gid in the address": {strings.Replace(b.dtm, gid, other, 1) + "/registerBranch",
			body(other, "01", b.url), 403},
		"another call":                 {b.dtm + "/submit", body(gid, "01", b.url), 404},
		"a commit that nobody decided": {b.url + "?gid=" + gid + "&trans_type=xa&branch_id=01&op=commit", "", 403},
	} {
		if got := post(c.target, c.body); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

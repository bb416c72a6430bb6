package integration_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// deployed reads a file of the production form.
func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(build.Root(t), "deploy", "coordinator", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replaced replaces what stands for an address in the files of the production form; each must be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in the production form:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// environment returns the variables of an environment file.
func environment(text string) (list []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			list = append(list, line)
		}
	}
	return list
}

// coordinatorTables makes DTM's tables by the script of the production form, with its own user.
func coordinatorTables(t *testing.T, server *sqltest.Server) {
	t.Helper()
	db, err := sql.Open("mysql", "root@tcp("+server.Addr()+")/?multiStatements=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	script := deployed(t, "mysql.sql")
	for range 2 { // it changes nothing that is there
		if _, err := db.Exec(script); err != nil {
			t.Fatalf("mysql.sql: %v", err)
		}
	}
	_, err = db.Exec("CREATE USER dtm IDENTIFIED BY 'change-me'; " +
		"GRANT SELECT, INSERT, UPDATE, DELETE ON dtm.* TO dtm")
	if err != nil {
		t.Fatal(err)
	}
}

// The production form: two coordinators on one database, and a gateway that knows both. One is killed in the middle and
// comes back, then the other: every checkout ends, once, and the books balance.
func TestTwoCoordinatorsOnOneDatabase(t *testing.T) {
	t.Parallel()
	server := sqltest.MariaDB(t)
	coordinatorTables(t, server)
	host, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	branches := harness.Address(t)
	env := environment(replaced(t, deployed(t, "sluice-dtm.env"), "mysql.internal", host, "3306", port,
		"gateway.internal:8081", branches))
	var coordinators [2]*dtmtest.Coordinator
	for i := range coordinators {
		coordinators[i] = dtmtest.Start(t, dtmtest.Options{Env: env})
	}
	c := &checkouts{T: t, shop: harness.StartShop(t, t.TempDir())}
	for _, service := range shop.Names {
		c.shop.Fault(t, service, `{"latency": "20ms"}`)
	}
	config := fmt.Sprintf(checkoutConfig, c.shop.URL("stock"), c.shop.URL("order"), c.shop.URL("payment"),
		c.shop.URL("points"), c.shop.URL("shipping"), "")
	before, _, _ := strings.Cut(config, "coordinator:\n")
	_, after, _ := strings.Cut(config, "transactions:\n")
	section := replaced(t, deployed(t, "gateway.yaml"), "http://dtm-1.internal:36789", coordinators[0].URL,
		"http://dtm-2.internal:36789", coordinators[1].URL, `":8081"`, `"`+branches+`"`, "gateway.internal:8081", branches,
		"${file:branch.key}", strings.Repeat("k", 32))
	c.gateway = harness.StartGateway(t, before+section+"transactions:\n"+after)

	const n = 24
	user := func(i int) string {
		if i%4 == 0 {
			return "broke"
		}
		return fmt.Sprintf("user-%d", i)
	}
	key := func(i int) string { return fmt.Sprintf("key-%d", i) }
	var running sync.WaitGroup
	ends, ended := make([]response, n), make([]bool, n)
	for i := range n {
		running.Go(func() { ends[i], ended[i] = c.buyToTheEnd(user(i), key(i)) })
		if i == n/3 || i == 2*n/3 {
			harness.Until(t, requestLimit, "some payments are asked for", func() bool { return c.arrivals() >= int64(i/3) })
			k := coordinators[i/(n/2)]
			k.Kill()
			defer k.Kill()
			if i == n/3 {
				running.Go(func() { c.buyToTheEnd("late", "key-late") }) // while only one is there
				harness.Until(t, requestLimit, "more payments are asked for", func() bool { return c.arrivals() > int64(i/2) })
				k.Restart()
			}
		}
	}
	running.Wait()
	for i := range n {
		if !ended[i] {
			t.Errorf("%s of %s is not at its end within %v: %v", key(i), user(i), settleLimit, ends[i])
			continue
		}
		c.wantEnd(c.buy(t.Context(), user(i), key(i)), user(i), key(i))
	}
	c.wantLedgers(n-n/4+1, n/4)
}

// What has ended does not stay in the database for ever; what has not does.
func TestDatabaseForgetsWhatHasEnded(t *testing.T) {
	t.Parallel()
	server := sqltest.MariaDB(t)
	coordinatorTables(t, server)
	db, err := sql.Open("mysql", "root@tcp("+server.Addr()+")/dtm?parseTime=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	old, young := time.Now().UTC().Add(-200*time.Hour), time.Now().UTC().Add(-time.Hour)
	add := func(gid, status string, at time.Time) {
		_, err := db.Exec("INSERT INTO trans_global (gid, trans_type, status, query_prepared, protocol, create_time, "+
			"update_time, next_cron_time) VALUES (?, 'saga', ?, '', 'http', ?, ?, ?)", gid, status, at, at, at)
		if err == nil {
			_, err = db.Exec("INSERT INTO trans_branch_op (gid, url, branch_id, op, status) VALUES (?, '', '01', 'action', ?)",
				gid, status)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("old", "failed", old)
	for i := range 11 { // 2048 transactions are several batches
		for _, table := range []string{"trans_global (gid, trans_type, status, query_prepared, protocol, create_time, " +
			"update_time, next_cron_time) SELECT concat(gid, ?), 'saga', status, '', 'http', create_time, update_time, " +
			"next_cron_time FROM trans_global",
			"trans_branch_op (gid, url, branch_id, op, status) SELECT concat(gid, ?), '', '01', 'action', status " +
				"FROM trans_branch_op"} {
			if _, err := db.Exec("INSERT INTO "+table, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("young", "succeed", young)
	add("open", "prepared", old)
	host, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dtmtest.Start(t, dtmtest.Options{Env: environment(replaced(t, deployed(t, "sluice-dtm.env"), "mysql.internal", host,
		"3306", port))})
	left := func(table string) (gids []string) {
		rows, err := db.Query("SELECT gid FROM " + table + " ORDER BY gid LIMIT 5")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var gid string
			if err := rows.Scan(&gid); err != nil {
				t.Fatal(err)
			}
			gids = append(gids, gid)
		}
		return gids
	}
	for _, table := range []string{"trans_global", "trans_branch_op"} {
		harness.Until(t, requestLimit, "only what is kept is in "+table, func() bool {
			return fmt.Sprint(left(table)) == "[open young]"
		})
	}
}

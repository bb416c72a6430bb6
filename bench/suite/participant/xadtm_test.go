package participant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"
	"github.com/go-resty/resty/v2"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/sagaclient"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// bank is two services with a database each, and a manager that is dtmcli's. The first service has
// this package's XA resource, the second one that of dtmcli.
type bank struct {
	t       *testing.T
	dtm     *dtmtest.Coordinator
	client  *sagaclient.Client
	server  *sqltest.Server
	dbs     [2]*sql.DB
	url     string
	limit   int64  // seconds, after which the coordinator rolls back
	prepare func() // after both are prepared, before the manager submits; nil: nothing
}

var errCardDeclined = errors.New("card declined")

// dtmcli has one name of the barrier's table for the whole program.
var nameOfBarrier = sync.OnceFunc(func() { dtmcli.SetBarrierTableName(participant.BarrierTable) })

func newBank(t *testing.T) *bank {
	nameOfBarrier()
	b := &bank{t: t, limit: 300, dtm: dtmtest.Start(t, dtmtest.Options{}), server: sqltest.MariaDB(t)}
	var err error
	if b.client, err = sagaclient.New(sagaclient.Options{Endpoints: []string{b.dtm.URL}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	for i := range b.dbs {
		b.dbs[i] = b.server.Open(t)
		if err := participant.Setup(t.Context(), b.dbs[i], participant.MySQL); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)",
			"INSERT INTO account VALUES (1, 1000)"} {
			if _, err := b.dbs[i].Exec(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	mux := http.NewServeMux()
	ours := &participant.XA{DB: b.dbs[0], RegisterAt: []string{b.dtm.URL + "/"}, Log: slog.New(slog.DiscardHandler)}
	mux.Handle("POST /withdraw", ours.Handler(func(conn *sql.Conn, r *http.Request) (participant.Response, error) {
		_, err := conn.ExecContext(r.Context(), "UPDATE account SET balance = balance - 30 WHERE id = 1")
		return participant.JSON(http.StatusOK, nil), err
	}))
	mux.HandleFunc("POST /deposit", b.deposit)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

// deposit is a service that uses dtmcli.
func (b *bank) deposit(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(b.server.Addr())
	if err != nil {
		b.t.Error(err)
		return
	}
	n, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		b.t.Error(err)
		return
	}
	var name string
	if err := b.dbs[1].QueryRow("SELECT DATABASE()").Scan(&name); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	conf := dtmcli.DBConf{Driver: "mysql", Host: host, Port: n, User: "root", Db: name}
	err = dtmcli.XaLocalTransaction(r.URL.Query(), conf, func(db *sql.DB, _ *dtmcli.Xa) error {
		if r.FormValue("refuse") != "" {
			return errCardDeclined
		}
		_, err := db.Exec("UPDATE account SET balance = balance + 30 WHERE id = 1")
		return err
	})
	switch {
	case errors.Is(err, errCardDeclined):
		w.WriteHeader(http.StatusConflict)
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// transfer is the manager's part; the outcome is what the coordinator comes to.
func (b *bank) transfer(gid, refuse string) sagaclient.Status {
	b.t.Helper()
	err := dtmcli.XaGlobalTransaction2(b.dtm.URL+"/api/dtmsvr", gid, func(x *dtmcli.Xa) {
		x.RetryInterval, x.TimeoutToFail = 1, b.limit
	}, func(x *dtmcli.Xa) (*resty.Response, error) {
		resp, err := x.CallBranch(map[string]int{"amount": 30}, b.url+"/withdraw")
		if err != nil {
			return resp, err
		}
		resp, err = x.CallBranch(map[string]int{"amount": 30}, b.url+"/deposit"+refuse)
		if err == nil && b.prepare != nil {
			b.prepare()
		}
		return resp, err
	})
	if (err != nil) != (refuse != "") && b.prepare == nil {
		b.t.Errorf("%s: %v", gid, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	tr, err := b.client.Wait(ctx, gid)
	if err != nil || tr.Type != "xa" {
		b.t.Fatalf("%s: %+v, %v", gid, tr, err)
	}
	return tr.Status
}

func (b *bank) balances() (balances [2]int) {
	b.t.Helper()
	for i, db := range b.dbs {
		db.SetMaxIdleConns(0) // none that a killed server has left behind
		if err := db.QueryRow("SELECT balance FROM account WHERE id = 1").Scan(&balances[i]); err != nil {
			b.t.Fatal(err)
		}
	}
	return balances
}

// A transfer between two databases, of which one has dtmcli: both or neither, under a coordinator
// that is a real one.
func TestXAWithCoordinator(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	if got := b.transfer("xadtm0000001", ""); got != sagaclient.Succeeded || b.balances() != [2]int{970, 1030} {
		t.Errorf("%s, balances %v", got, b.balances())
	}
	if got := b.transfer("xadtm0000002", "?refuse=1"); got != sagaclient.Failed || b.balances() != [2]int{970, 1030} {
		t.Errorf("refused: %s, balances %v", got, b.balances())
	}
	// Both databases are killed when both branches are prepared, and come back.
	killed := 0
	b.prepare = func() {
		b.server.Kill()
		b.server.Restart()
		killed++
	}
	if got := b.transfer("xadtm0000003", ""); got != sagaclient.Succeeded || b.balances() != [2]int{940, 1060} ||
		killed != 1 {
		t.Errorf("killed %d times: %s, balances %v", killed, got, b.balances())
	}
	b.limit = 1
	b.prepare = func() {
		b.dtm.Kill()
		b.dtm.Restart()
	}
	// The submit may reach the coordinator or not; then it rolls back when the time is over.
	got := b.transfer("xadtm0000004", "")
	want := map[sagaclient.Status][2]int{sagaclient.Succeeded: {910, 1090}, sagaclient.Failed: {940, 1060}}[got]
	if b.balances() != want {
		t.Errorf("coordinator killed: %s, balances %v, want %v", got, b.balances(), want)
	}
	for i := range 4 {
		if n := prepared(t, b.dbs[0], fmt.Sprintf("xadtm%07d", i+1)); n != 0 {
			t.Errorf("transfer %d has %d prepared branches", i+1, n)
		}
	}
}

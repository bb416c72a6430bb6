package main

import (
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// bank keeps accounts on MariaDB and takes part in XA transactions: what a transfer writes is prepared, and committed
// or rolled back when the other bank is ready too.
//
//	POST /v1/debits  {id, account, amount}     POST /v1/credits {id, account, amount}
//	GET  /v1/accounts                          GET  /v1/entries
//
// The coordinator calls commit and rollback at the URL of the do.
type bank struct {
	*store
	xa *participant.XA
}

// Each bank begins with these accounts, acc-0 and so on, and as much money in each.
const (
	accounts = 20
	opening  = 100_000 // minor units
)

// transfer is one side of a transfer.
type transfer struct {
	ID      string `json:"id"`
	Account string `json:"account"`
	Amount  int64  `json:"amount"`
}

func newBank(c settings, st *store) (part, error) {
	if st.guard.Dialect != participant.MySQL {
		return part{}, fmt.Errorf("%s needs --mariadb: SQLite has no XA", st.name)
	}
	s := &bank{st, &participant.XA{DB: st.db, Log: st.log}}
	if c.registerAt != "" {
		s.xa.RegisterAt = []string{c.registerAt}
	}
	st.db.SetMaxOpenConns(0) // a branch keeps its connection to the end of its first phase
	err := s.create(
		`CREATE TABLE IF NOT EXISTS account (name VARCHAR(100) PRIMARY KEY, balance BIGINT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS entry (id VARCHAR(100) NOT NULL, account VARCHAR(100) NOT NULL,
			amount BIGINT NOT NULL)`)
	for i := 0; i < accounts && err == nil; i++ {
		err = s.open(fmt.Sprintf("acc-%d", i))
	}
	mux := http.NewServeMux()
	s.health(mux)
	mux.Handle("POST /v1/debits", s.xa.Handler(s.book(-1)))
	mux.Handle("POST /v1/credits", s.xa.Handler(s.book(+1)))
	mux.Handle("GET /v1/accounts", list(s.store, "SELECT name, balance FROM account ORDER BY name",
		func(rows *sql.Rows, t *transfer) error { return rows.Scan(&t.Account, &t.Amount) }))
	mux.Handle("GET /v1/entries", list(s.store, "SELECT id, account, amount FROM entry",
		func(rows *sql.Rows, t *transfer) error { return rows.Scan(&t.ID, &t.Account, &t.Amount) }))
	return part{handler: mux}, err
}

// open makes an account where it is missing. It looks first, which waits for nobody: after a crash branches may be
// prepared, and what they have changed is locked until the coordinator ends them through this service.
func (s *bank) open(name string) error {
	var n int
	if err := s.db.QueryRow("SELECT COUNT(*) FROM account WHERE name = ?", name).Scan(&n); err != nil || n > 0 {
		return err
	}
	_, err := s.db.Exec(s.insertIgnore()+"account (name, balance) VALUES (?, ?)", name, opening)
	return err
}

// lockWait is how long a branch waits for an account that another transfer has locked. Then nothing is done, and the
// branch comes again.
const lockWait = time.Second

// book changes an account. The row stays locked until the transaction ends.
func (s *bank) book(sign int64) participant.XAEffect {
	return func(conn *sql.Conn, r *http.Request) (participant.Response, error) {
		var t transfer
		if !decode(r, &t) || !idPattern.MatchString(t.ID) || t.Amount < 1 || t.Amount > amountMax {
			return refuse(http.StatusUnprocessableEntity, "body-invalid")
		}
		t.Amount *= sign
		ctx := r.Context()
		if _, err := conn.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = ?",
			int(lockWait/time.Second)); err != nil {
			return participant.Response{}, err
		}
		res, err := conn.ExecContext(ctx,
			"UPDATE account SET balance = balance + ? WHERE name = ? AND balance + ? >= 0",
			t.Amount, t.Account, t.Amount)
		if err != nil {
			return participant.Response{}, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return participant.Response{}, err
		}
		if n == 0 {
			return refuse(http.StatusConflict, "no-such-account-or-too-little")
		}
		_, err = conn.ExecContext(ctx, "INSERT INTO entry (id, account, amount) VALUES (?, ?, ?)", t.ID, t.Account,
			t.Amount)
		if err != nil {
			return participant.Response{}, err
		}
		return ok(t)
	}
}

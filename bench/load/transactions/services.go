package transactions

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql" // MariaDB's

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// steps are those of the saga, and the first part of the paths that they call.
var steps = []string{"reserve", "order", "pay"}

// Part is the name of the process that plays the services.
const Part = "transactions-services"

const (
	accounts      = 1000
	databaseCalls = 64 // at once
)

// RunPart runs the services until ctx ends. The arguments are those that this package gives to itself: the part, the
// address to listen on, the number of statements of a step, and the address of MariaDB. Without statements the services
// do nothing.
func RunPart(ctx context.Context, args []string) error {
	if len(args) != 4 || args[0] != Part {
		return fmt.Errorf("transactions: want %s ADDRESS STATEMENTS MARIADB", Part)
	}
	statements, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	handler := http.Handler(http.HandlerFunc(doNothing))
	if statements > 0 {
		db, err := openAccounts(ctx, args[3])
		if err != nil {
			return fmt.Errorf("transactions: %w", err)
		}
		defer db.Close()
		handler = &ledger{db, statements}
	}
	return measure.Serve(ctx, args[1], handler)
}

func doNothing(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}")
}

// openAccounts opens a database of its own with the accounts and the barrier's table.
func openAccounts(ctx context.Context, address string) (*sql.DB, error) {
	settings := mysql.NewConfig()
	settings.User, settings.Net, settings.Addr, settings.InterpolateParams = "root", "tcp", address, true
	first, err := sql.Open("mysql", settings.FormatDSN())
	if err != nil {
		return nil, err
	}
	defer first.Close()
	if _, err := first.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS bench"); err != nil {
		return nil, err
	}
	settings.DBName = "bench"
	db, err := sql.Open("mysql", settings.FormatDSN())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(databaseCalls)
	db.SetMaxIdleConns(databaseCalls)
	return db, errors.Join(participant.Setup(ctx, db, participant.MySQL), fillAccounts(ctx, db))
}

func fillAccounts(ctx context.Context, db *sql.DB) error {
	const table = "CREATE TABLE IF NOT EXISTS account (id INT PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB"
	if _, err := db.ExecContext(ctx, table); err != nil {
		return err
	}
	rows := make([]string, accounts)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d, 0)", i)
	}
	_, err := db.ExecContext(ctx, "INSERT IGNORE INTO account VALUES "+strings.Join(rows, ","))
	return err
}

// ledger is a service whose steps are so many statements within the barrier's transaction.
type ledger struct {
	db         *sql.DB
	statements int
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	barrier, ok, err := participant.FromRequest(r)
	if err != nil || !ok {
		http.Error(w, fmt.Sprint("no branch call: ", err), http.StatusBadRequest)
		return
	}
	barrier.Dialect = participant.MySQL
	ids := l.accountsOf(barrier.GID + barrier.BranchID)
	_, err = barrier.Call(r.Context(), l.db, func(tx *sql.Tx) error {
		for _, id := range ids {
			_, err := tx.ExecContext(r.Context(), "UPDATE account SET balance = balance + 1 WHERE id = ?", id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}")
}

// accountsOf spreads the steps over the accounts; in their order, so that no two wait for each other.
func (l *ledger) accountsOf(name string) []int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name)
	ids := make([]int, l.statements)
	for i := range ids {
		ids[i] = (int(h.Sum32()%accounts) + i*accounts/l.statements) % accounts
	}
	slices.Sort(ids)
	return ids
}

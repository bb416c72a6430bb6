package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// store is the database of one service.
type store struct {
	name  string
	db    *sql.DB
	guard *participant.Guard
	log   *slog.Logger
}

// openStore opens the database of a service and makes it, with the tables of package participant, where it is missing.
func openStore(ctx context.Context, s settings, name string, log *slog.Logger) (*store, error) {
	db, dialect, err := open(ctx, s, name)
	if err != nil {
		return nil, err
	}
	if err := participant.Setup(ctx, db, dialect); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &store{name: name, db: db, log: log,
		guard: &participant.Guard{DB: db, Dialect: dialect, Log: log}}, nil
}

func open(ctx context.Context, s settings, name string) (*sql.DB, participant.Dialect, error) {
	if s.mariadb != "" {
		db, err := openMariaDB(ctx, s.mariadb, name)
		return db, participant.MySQL, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, 0, err
	}
	path := (&url.URL{Scheme: "file", Opaque: url.PathEscape(filepath.Join(s.dir, name+".db"))}).String()
	// A killed process loses nothing with synchronous=NORMAL; a machine without power may lose the last commits.
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"+
		"&_pragma=synchronous(NORMAL)&_txlock=immediate")
	if err != nil {
		return nil, 0, err
	}
	db.SetMaxOpenConns(1) // SQLite has one writer
	return db, participant.SQLite, nil
}

// mariadbLimit bounds the statements of a connection to a server that hangs: the gateway hears of a failure, and the
// branch comes again.
const mariadbLimit = 5 * time.Second

func openMariaDB(ctx context.Context, dsn, name string) (*sql.DB, error) {
	c, err := mysql.ParseDSN(dsn + "/")
	if err != nil {
		return nil, fmt.Errorf("--mariadb: %w", err)
	}
	c.ReadTimeout, c.WriteTimeout, c.Timeout = mariadbLimit, mariadbLimit, mariadbLimit
	c.Params = map[string]string{"tx_isolation": "'READ-COMMITTED'"}
	// Rows that an UPDATE finds, not those that it changes: whether a statement took effect is read from it.
	c.ClientFoundRows = true
	server, err := connect(c)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	if _, err := server.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+name+"`"); err != nil {
		return nil, err
	}
	c.DBName = name
	return connect(c)
}

func connect(c *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(8)
	db.SetConnMaxIdleTime(30 * time.Second)
	return db, nil
}

// create makes tables where they are missing. The types in the statements are those that both databases take.
func (s *store) create(statements ...string) error {
	for _, statement := range statements {
		if _, err := s.db.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// effect serves what changes something.
func (s *store) effect(do participant.Effect) http.Handler { return s.guard.Handler(do) }

// health is a route of every service.
func (s *store) health(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := s.db.PingContext(ctx); err != nil {
			respond(w, http.StatusServiceUnavailable, map[string]string{"reason": "database"})
			return
		}
		respond(w, http.StatusOK, map[string]string{"service": s.name, "status": "ok"})
	})
}

// forUpdate is the end of a SELECT that locks its row; SQLite's transactions lock everything when they begin.
func (s *store) forUpdate() string {
	if s.guard.Dialect == participant.MySQL {
		return " FOR UPDATE"
	}
	return ""
}

// insertIgnore is the beginning of an INSERT that does nothing where there is a row.
func (s *store) insertIgnore() string {
	if s.guard.Dialect == participant.MySQL {
		return "INSERT IGNORE INTO "
	}
	return "INSERT OR IGNORE INTO "
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// all returns the rows of a query, each read by scan.
func all[T any](ctx context.Context, q querier, query string, scan func(rows *sql.Rows, one *T) error, args ...any) (
	[]T, error,
) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []T{}
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// list serves the rows of a query.
func list[T any](s *store, query string, scan func(rows *sql.Rows, one *T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rows, err := all(r.Context(), s.db, query, scan)
		s.respond(w, r, rows, err)
	}
}

// respond sends what was read.
func (s *store) respond(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err != nil {
		s.log.Error("read failed", "path", r.URL.Path, "error", err)
		respond(w, http.StatusInternalServerError, map[string]string{"reason": "internal-error"})
		return
	}
	respond(w, http.StatusOK, v)
}

func respond(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// ok is the response of an effect that is done. DTM itself takes 200 alone for that; behind the gateway every 2xx is.
func ok(v any) (participant.Response, error) { return participant.JSON(http.StatusOK, v), nil }

// refuse is the response of an effect that is not done, and never will be for this request.
func refuse(status int, reason string) (participant.Response, error) {
	return participant.Refusal(status, reason), nil
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

const amountMax = 1_000_000_000

// decode reads a request's body.
func decode(r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	return d.Decode(v) == nil && !d.More()
}

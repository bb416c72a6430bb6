package shop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"

	"github.com/sluice-gateway/sluice/sagaclient/participant"

	_ "modernc.org/sqlite" // the driver
)

// service is one of the five.
type service struct {
	kind  *kind
	write *sql.DB // one connection: SQLite has one writer, and Go queues more fairly than its busy loop
	read  *sql.DB
	guard *participant.Guard
	naive bool
	// no keys: branches of transactions are honoured, keys of other requests are not
	noKeys  bool
	faults  faults
	workers *workers
	stats   stats
}

const schema = `
CREATE TABLE IF NOT EXISTS record (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, user TEXT NOT NULL, sku TEXT NOT NULL,
  qty INTEGER NOT NULL, amount INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS stock (
  sku TEXT PRIMARY KEY, total INTEGER NOT NULL, available INTEGER NOT NULL CHECK (available >= 0)
);
CREATE TABLE IF NOT EXISTS ledger (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, kind TEXT NOT NULL, user TEXT NOT NULL, sku TEXT NOT NULL, amount INTEGER NOT NULL,
  at INTEGER NOT NULL, key TEXT NOT NULL, attempt INTEGER NOT NULL, gid TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_key ON ledger (key);`

func openService(k *kind, o Options) (*service, error) {
	s := &service{kind: k, naive: o.Naive, noKeys: o.NoKeys, faults: newFaults(),
		stats: stats{routes: map[string]int64{}, keys: map[string]int64{}}}
	path := (&url.URL{Scheme: "file", Opaque: url.PathEscape(filepath.Join(o.Dir, k.name+".db"))}).String()
	const pragmas = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
	var err error
	if s.write, err = sql.Open("sqlite", path+pragmas+"&_txlock=immediate"); err != nil {
		return nil, fmt.Errorf("shop: %s: %w", k.name, err)
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", path+pragmas+"&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(fmt.Errorf("shop: %s: %w", k.name, err), s.write.Close())
	}
	s.read.SetMaxOpenConns(4)
	s.guard = &participant.Guard{DB: s.write, Dialect: participant.SQLite, Log: o.Log.With("service", k.name)}
	if err := s.prepare(o); err != nil {
		return nil, errors.Join(fmt.Errorf("shop: %s: %w", k.name, err), s.closeDatabases())
	}
	s.workers = newWorkers(o.Capacity[k.name])
	return s, nil
}

func (s *service) prepare(o Options) error {
	if _, err := s.write.Exec(schema); err != nil {
		return err
	}
	if err := participant.Setup(context.Background(), s.write, participant.SQLite); err != nil {
		return err
	}
	if s.kind.name != "stock" {
		return nil
	}
	for sku, n := range o.Stock { // existing rows stay: a restart sells nothing twice
		if _, err := s.write.Exec("INSERT OR IGNORE INTO stock VALUES (?, ?, ?)", sku, n, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) close() error {
	s.workers.close()
	return s.closeDatabases()
}

func (s *service) closeDatabases() error { return errors.Join(s.read.Close(), s.write.Close()) }

// handler is the whole service.
func (s *service) handler() http.Handler {
	k := s.kind
	mux := http.NewServeMux()
	api := func(pattern string, h http.Handler) { mux.Handle(pattern, s.witness(s.faults.wrap(s.workers.wrap(h)))) }
	api("POST "+k.collection, s.effect(k.create))
	api("POST "+k.collection+"/{id}/"+k.undo, s.effect(k.back))
	api("GET "+k.collection+"/{id}", http.HandlerFunc(s.get))
	if k.name == "stock" {
		api("GET /v1/stock", http.HandlerFunc(s.shelf))
		api("GET /v1/stock/{sku}", http.HandlerFunc(s.shelf))
	}
	mux.HandleFunc("GET /ledger", s.ledger)
	mux.HandleFunc("GET /stats", s.stats.serve)
	mux.HandleFunc("GET /faults", s.faults.list)
	mux.HandleFunc("POST /faults", s.faults.add)
	mux.HandleFunc("DELETE /faults", s.faults.clear)
	mux.HandleFunc("GET /capacity", s.workers.serveCapacity)
	mux.HandleFunc("POST /capacity", s.workers.serveCapacity)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.read.PingContext(r.Context()); err != nil {
			respond(w, http.StatusServiceUnavailable, map[string]string{"reason": "database"})
			return
		}
		respond(w, http.StatusOK, map[string]string{"service": k.name, "status": "ok"})
	})
	return mux
}

// effect serves what changes something.
func (s *service) effect(do participant.Effect) http.Handler {
	guarded := s.guard.Handler(do)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, newCall(r)))
		if s.naive || s.noKeys && callOf(r).gid == "" {
			r = withoutInjected(r)
		}
		guarded.ServeHTTP(w, r)
	})
}

// withoutInjected is the request as a service without support for keys and branches sees it.
func withoutInjected(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	for _, name := range []string{participant.HeaderKey, participant.HeaderAttempt, participant.HeaderTransaction,
		participant.HeaderBranch, participant.HeaderOp} {
		r.Header.Del(name)
	}
	r.URL.RawQuery = ""
	return r
}

// witness counts requests as they arrive.
func (s *service) witness(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.stats.count(r.Pattern, newCall(r))
		next.ServeHTTP(w, r)
	})
}

func (s *service) get(w http.ResponseWriter, r *http.Request) {
	rec, err := find(s.read, r.PathValue("id"))
	if errors.Is(err, sql.ErrNoRows) {
		respond(w, http.StatusNotFound, map[string]string{"reason": "unknown-id"})
		return
	}
	s.respondOrFail(w, rec, err)
}

// Shelf is how much there is of a SKU.
type Shelf struct {
	SKU       string `json:"sku"`
	Total     int64  `json:"total"`
	Available int64  `json:"available"`
}

func (s *service) shelf(w http.ResponseWriter, r *http.Request) {
	sku := r.PathValue("sku")
	rows, err := s.read.QueryContext(r.Context(),
		"SELECT sku, total, available FROM stock WHERE sku = ? OR ? = '' ORDER BY sku", sku, sku)
	if err != nil {
		s.respondOrFail(w, nil, err)
		return
	}
	defer rows.Close()
	all := []Shelf{}
	for rows.Next() {
		var one Shelf
		if err := rows.Scan(&one.SKU, &one.Total, &one.Available); err != nil {
			s.respondOrFail(w, nil, err)
			return
		}
		all = append(all, one)
	}
	switch err := rows.Err(); {
	case sku == "" || err != nil:
		s.respondOrFail(w, map[string]any{"stock": all}, err)
	case len(all) == 0:
		respond(w, http.StatusNotFound, map[string]string{"reason": "unknown-sku"})
	default:
		respond(w, http.StatusOK, all[0])
	}
}

func (s *service) respondOrFail(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.guard.Log.Error("read failed", "error", err)
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

const statsKeysMax = 100_000

// stats counts requests.
type stats struct {
	mu       sync.Mutex
	routes   map[string]int64
	keys     map[string]int64
	repeated int64
}

func (s *stats) count(route string, c call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.routes[route]++
	n, known := s.keys[c.key]
	if known && c.gid == "" && c.attempt <= 1 {
		s.repeated++
	}
	if c.key != "" && (known || len(s.keys) < statsKeysMax) {
		s.keys[c.key] = n + 1
	}
}

// Stats is the response to GET /stats. With ?keys=false it has no keys.
type Stats struct {
	Requests map[string]int64 `json:"requests"` // by route: "POST /v1/orders/{id}/cancel"
	Keys     map[string]int64 `json:"keys,omitempty"`
	// Repeated are requests with a key that had come before, without a word that they are a further
	// attempt. Branches of transactions are not counted: a coordinator repeats them.
	Repeated int64 `json:"repeated"`
}

func (s *stats) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	now := Stats{maps.Clone(s.routes), maps.Clone(s.keys), s.repeated}
	s.mu.Unlock()
	if r.URL.Query().Get("keys") == "false" {
		now.Keys = nil
	}
	respond(w, http.StatusOK, now)
}

// discardLog is used where no logger is given.
var discardLog = slog.New(slog.DiscardHandler)

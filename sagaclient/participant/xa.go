package participant

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// XA makes a service a resource of DTM's XA transactions, on MySQL or MariaDB: what a branch writes
// is prepared, and committed or rolled back when all branches are. It speaks dtmcli's protocol: the
// query parameters gid, branch_id, op, dtm and phase2_url, registerBranch at the coordinator, the
// row in the barrier's table. The service needs no dtmcli.
//
// Every do uses a connection of its own and closes it, since only then may another connection end
// what it has prepared; MySQL from 8.0.29 on could do without. Do not set a limit of open
// connections that is below the number of branches at once.
//
// It is safe for concurrent use; its fields must not change after the first call.
type XA struct {
	DB    *sql.DB
	Table string // of the barrier; empty: [BarrierTable]
	// RegisterAt are the beginnings of URLs at which branches may be registered, such as
	// "http://gateway.internal:8081/". The call names the URL itself; without RegisterAt whoever can
	// call the service can have it send a request to any address.
	RegisterAt []string
	// HTTP registers branches; nil: a client with a time limit of 3 s that follows no redirect.
	HTTP            *http.Client
	RequestBytesMax int64        // bytes of a request's body that Handler reads; 0: 1 MiB
	Log             *slog.Logger // of Handler; nil: slog.Default
}

// XABranch is one call of one branch of an XA transaction.
type XABranch struct {
	Barrier
	DTM       string // base URL at which the branch registers itself: DTM + "/registerBranch"
	Phase2URL string // where the coordinator calls commit and rollback
}

// Outcomes of [XA.Call] that are no results.
var (
	// ErrXAInFlight: the same branch is executing in another call, or its connection has not ended
	// yet. Nothing was done; respond with 425, so that the coordinator calls again.
	ErrXAInFlight = errors.New("participant: the XA branch is in flight")
	// ErrXARefused: the coordinator does not take the branch any more, since its transaction is being
	// rolled back. Nothing was done; respond with 409.
	ErrXARefused = errors.New("participant: the coordinator refuses the XA branch")
	// ErrXALost: phase two is to end in a way that the first phase does not allow: to commit what is
	// not prepared, or to roll back what is committed. Somebody has ended the branch by hand, or the
	// database has lost what it acknowledged. Respond with 500 and look at it.
	ErrXALost = errors.New("participant: the XA branch has another end already")
)

// xidPart: gid and branch id become part of statements, which take no parameters there.
var xidPart = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)

// xidBytesMax is MySQL's limit of a global transaction id.
const xidBytesMax = 64

// XAFromRequest reads DTM's query parameters. ok is false when there are none.
func XAFromRequest(r *http.Request) (b XABranch, ok bool, err error) {
	b.Barrier, ok, err = FromRequest(r)
	if !ok || err != nil {
		return b, ok, err
	}
	q := r.URL.Query()
	b.DTM, b.Phase2URL = q.Get("dtm"), q.Get("phase2_url")
	b.TransType = "xa"
	b.Dialect = MySQL
	if err := b.check(); err != nil {
		return b, true, err
	}
	return b, true, nil
}

func (b *XABranch) check() error {
	switch {
	case !xidPart.MatchString(b.GID) || !xidPart.MatchString(b.BranchID) || len(b.xid()) > xidBytesMax:
		return fmt.Errorf("participant: gid %q and branch id %q make no XA id of at most %d of [0-9A-Za-z_-]",
			b.GID, b.BranchID, xidBytesMax)
	case b.Op != "action" && b.Op != "commit" && b.Op != "rollback":
		return fmt.Errorf("participant: op %q of an XA branch is not action, commit or rollback", b.Op)
	case b.Op == "action" && (b.DTM == "" || b.Phase2URL == ""):
		return errors.New("participant: an XA branch has no dtm or no phase2_url in its query")
	}
	return nil
}

func (b *XABranch) xid() string { return b.GID + "-" + b.BranchID }

// Call serves one call. With op action, do runs in an XA transaction on conn, which it neither
// commits nor rolls back: Executed says that it is prepared and registered, Repeated that it was
// before, TooLate that the roll-back came first. With commit and rollback do is not called, and
// Executed says that the branch has that end, as it may have had before.
//
// When do returns an error all is rolled back and the error is returned as it is. For other errors
// see [ErrXAInFlight], [ErrXARefused] and [ErrXALost]; what is none of them may be called again.
func (x *XA) Call(ctx context.Context, b XABranch, do func(conn *sql.Conn) error) (Result, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	b.Table, b.Dialect = cmp.Or(b.Table, x.Table), MySQL
	switch b.Op {
	case "commit":
		return Executed, x.commit(ctx, b)
	case "rollback":
		return Executed, x.rollback(ctx, b)
	}
	return x.prepare(ctx, b, do)
}

// prepare is the first phase. Until XA PREPARE the branch ends with its connection, so whatever goes
// wrong before is rolled back by closing that.
func (x *XA) prepare(ctx context.Context, b XABranch, do func(conn *sql.Conn) error) (Result, error) {
	target, err := x.registerURL(b)
	if err != nil {
		return 0, err
	}
	conn, err := x.DB.Conn(ctx)
	if err != nil {
		return 0, beforeCommit("participant: XA branch %s: %w", b.xid(), err)
	}
	defer discard(conn)
	if _, err := conn.ExecContext(ctx, "XA START '"+b.xid()+"'"); err != nil {
		if hasCode(err, "XAER_DUPID") {
			return x.duplicate(ctx, conn, b)
		}
		return 0, beforeCommit("participant: XA START of %s: %w", b.xid(), err)
	}
	// The roll-back inserts the same row, so one of the two comes first. A row that another call has
	// inserted and not prepared is waited for.
	first, err := inserted(ctx, conn, b.Dialect.insertIgnore(cmp.Or(b.Table, BarrierTable),
		"trans_type, gid, branch_id, op, barrier_id, reason", "gid, branch_id, op, barrier_id"),
		"xa", b.GID, b.BranchID, "action", barrierID, "action")
	if err != nil {
		return 0, beforeCommit("participant: barrier of XA branch %s: %w", b.xid(), err)
	}
	if !first {
		return x.ended(ctx, conn, b)
	}
	if err := do(conn); err != nil {
		return 0, err
	}
	// Before XA PREPARE: a branch that is prepared and not registered would stay for ever.
	if err := x.register(ctx, target, b); err != nil {
		return 0, err
	}
	if _, err := conn.ExecContext(ctx, "XA END '"+b.xid()+"'"); err != nil {
		return 0, beforeCommit("participant: XA END of %s: %w", b.xid(), err)
	}
	if _, err := conn.ExecContext(ctx, "XA PREPARE '"+b.xid()+"'"); err != nil {
		return 0, &txError{atCommit: true, err: fmt.Errorf("participant: XA PREPARE of %s: %w", b.xid(), err)}
	}
	return Executed, nil
}

// duplicate: an XA transaction of that id is prepared, or another call executes it.
func (x *XA) duplicate(ctx context.Context, conn *sql.Conn, b XABranch) (Result, error) {
	prepared, err := isPrepared(ctx, conn, b)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: XA RECOVER: %w", ErrXAInFlight, b.xid(), err)
	}
	if !prepared {
		return 0, fmt.Errorf("%w: %s", ErrXAInFlight, b.xid())
	}
	return Repeated, nil
}

// ended: the row is there, so the branch has an end.
func (x *XA) ended(ctx context.Context, conn *sql.Conn, b XABranch) (Result, error) {
	reason, err := x.reason(ctx, conn, b)
	switch {
	case err != nil:
		return 0, beforeCommit("participant: barrier of XA branch %s: %w", b.xid(), err)
	case reason == "action": // committed
		return Repeated, nil
	}
	return TooLate, nil
}

// How long phase two waits for a connection of the first phase to end, and how often it looks.
// DTM's limit of a call is three seconds.
const (
	xaTries = 4
	xaPause = 100 * time.Millisecond
)

func (x *XA) commit(ctx context.Context, b XABranch) error {
	for try := 1; ; try++ {
		_, err := x.DB.ExecContext(ctx, "XA COMMIT '"+b.xid()+"'")
		switch {
		case err == nil:
			return nil
		case !hasCode(err, "XAER_NOTA", "XAER_RMFAIL"):
			return fmt.Errorf("participant: XA COMMIT of %s: %w", b.xid(), err)
		}
		// Committed before; or its connection is not quite gone; or it was never prepared.
		reason, rowErr := x.reason(ctx, x.DB, b)
		switch {
		case rowErr != nil:
			return fmt.Errorf("participant: XA COMMIT of %s: %w", b.xid(), rowErr)
		case reason == "action":
			return nil
		case reason != "":
			return fmt.Errorf("%w: %s is rolled back and is to be committed", ErrXALost, b.xid())
		case try < xaTries:
			if !sleep(ctx, xaPause) {
				return ctx.Err()
			}
			continue
		}
		prepared, recoverErr := isPrepared(ctx, x.DB, b)
		if recoverErr != nil || prepared {
			return fmt.Errorf("%w: %s: %w", ErrXAInFlight, b.xid(), err)
		}
		return fmt.Errorf("%w: %s is not prepared and is to be committed: %w", ErrXALost, b.xid(), err)
	}
}

// rollback rolls back and leaves the row that a do which comes later finds. Its wait for a row that
// a do in flight has inserted is bounded, and ends with [ErrXAInFlight].
func (x *XA) rollback(ctx context.Context, b XABranch) error {
	conn, err := x.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("participant: XA branch %s: %w", b.xid(), err)
	}
	defer discard(conn) // with its setting
	if _, err := conn.ExecContext(ctx, "SET SESSION innodb_lock_wait_timeout = 1"); err != nil {
		return fmt.Errorf("participant: XA branch %s: %w", b.xid(), err)
	}
	for try := 1; ; try++ {
		_, err := conn.ExecContext(ctx, "XA ROLLBACK '"+b.xid()+"'")
		if err != nil && !hasCode(err, "XAER_NOTA", "XAER_RMFAIL", "XA_RB") {
			return fmt.Errorf("participant: XA ROLLBACK of %s: %w", b.xid(), err)
		}
		_, err = inserted(ctx, conn, b.Dialect.insertIgnore(cmp.Or(b.Table, BarrierTable),
			"trans_type, gid, branch_id, op, barrier_id, reason", "gid, branch_id, op, barrier_id"),
			"xa", b.GID, b.BranchID, "action", barrierID, reasonRollback)
		if err == nil {
			break
		}
		if !conflict(err) {
			return fmt.Errorf("participant: barrier of XA branch %s: %w", b.xid(), err)
		}
		if try == 2 { // each waits a second
			return fmt.Errorf("%w: %s: %w", ErrXAInFlight, b.xid(), err)
		}
	}
	reason, err := x.reason(ctx, conn, b)
	switch {
	case err != nil:
		return fmt.Errorf("participant: barrier of XA branch %s: %w", b.xid(), err)
	case reason != reasonRollback:
		return fmt.Errorf("%w: %s is committed and is to be rolled back", ErrXALost, b.xid())
	}
	return nil
}

// querier is a database, or one connection of it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// reason returns that of the committed row; empty: there is none.
func (x *XA) reason(ctx context.Context, db querier, b XABranch) (reason string, err error) {
	err = db.QueryRowContext(ctx, "SELECT reason FROM "+cmp.Or(b.Table, BarrierTable)+
		" WHERE gid = ? AND branch_id = ? AND op = 'action' AND barrier_id = ?",
		b.GID, b.BranchID, barrierID).Scan(&reason)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return reason, err
}

func isPrepared(ctx context.Context, db querier, b XABranch) (bool, error) {
	rows, err := db.QueryContext(ctx, "XA RECOVER") // a privilege of its own on MySQL 8
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var format, gtrid, bqual int
		var data string
		if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
			return false, err
		}
		if data == b.xid() {
			return true, nil
		}
	}
	return false, rows.Err()
}

// discard closes the connection itself and does not put it back into the pool: the server rolls
// back what is not prepared, and lets others end what is.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// hasCode reports whether the text of a driver's error names one of the codes. Drivers are told
// apart by their errors, as in conflict.
func hasCode(err error, codes ...string) bool {
	text := err.Error()
	for _, code := range codes {
		if strings.Contains(text, code) {
			return true
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package participant_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// A service may have dtmcli's barrier for some calls of a branch and this package's for others: both
// read the rows of the other one.
func TestOneTableWithDTMCLI(t *testing.T) {
	t.Parallel()
	b := &backend{dialect: participant.MySQL, server: sqltest.MariaDB(t)}
	db := b.open(t)
	runs := 0
	effect := func(*sql.Tx) error { runs++; return nil }
	ours := func(gid, branch, op string) (participant.Result, error) {
		bar := participant.Barrier{GID: gid, BranchID: branch, Op: op, Dialect: b.dialect}
		return bar.Call(t.Context(), db, effect)
	}
	dtm := func(gid, branch, op string) *dtmcli.BranchBarrier {
		bar, err := dtmcli.BarrierFrom("saga", gid, branch, op)
		if err != nil {
			t.Fatal(err)
		}
		bar.DBType, bar.BarrierTableName = "mysql", participant.BarrierTable
		return bar
	}
	theirs := func(gid, branch, op string) {
		t.Helper()
		if err := dtm(gid, branch, op).CallWithDB(db, effect); err != nil {
			t.Errorf("%s of %s: %v", op, gid, err)
		}
	}
	for i, c := range []struct {
		name string
		run  func(gid string) (participant.Result, error)
		want participant.Result
		runs int
	}{
		{"their do, our undo", func(gid string) (participant.Result, error) {
			theirs(gid, "01", "action")
			return ours(gid, "01", "compensate")
		}, participant.Executed, 2},
		{"their do, ours again", func(gid string) (participant.Result, error) {
			theirs(gid, "01", "action")
			return ours(gid, "01", "action")
		}, participant.Repeated, 1},
		{"their undo, our late do", func(gid string) (participant.Result, error) {
			theirs(gid, "01", "compensate")
			return ours(gid, "01", "action")
		}, participant.TooLate, 0},
		{"our undo, their late do", func(gid string) (participant.Result, error) {
			defer theirs(gid, "01", "action")
			return ours(gid, "01", "compensate")
		}, participant.Empty, 0},
		{"our try, their cancel", func(gid string) (participant.Result, error) {
			defer theirs(gid, "01", "cancel")
			return ours(gid, "01", "try")
		}, participant.Executed, 2},
		{"their query, our late primary", func(gid string) (participant.Result, error) {
			nameOfBarrier()
			if err := dtm(gid, "00", "msg").QueryPrepared(db); !errors.Is(err, dtmcli.ErrFailure) {
				t.Errorf("query: %v", err)
			}
			return ours(gid, "00", "msg")
		}, participant.TooLate, 0},
	} {
		gid := fmt.Sprintf("both%08d", i)
		runs = 0
		got, err := c.run(gid)
		if got != c.want || err != nil || runs != c.runs {
			t.Errorf("%s: %v, %v after %d runs; want %v after %d", c.name, got, err, runs, c.want, c.runs)
		}
	}
	primary := participant.Barrier{GID: "both1000", BranchID: "00", Op: "msg", Dialect: b.dialect}
	theirs("both1000", "00", "msg")
	if done, err := primary.Query(t.Context(), db); !done || err != nil {
		t.Errorf("their primary, our query: %v, %v", done, err)
	}
}

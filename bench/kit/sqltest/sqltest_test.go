package sqltest_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
)

// What is committed is there after a kill; two databases of a server do not see each other.
func TestServers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *sqltest.Server{"mariadb": sqltest.MariaDB,
		"postgres": sqltest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			db, other := s.Open(t), s.Open(t)
			db.SetMaxIdleConns(0) // none that the killed server leaves behind
			for _, d := range []string{"CREATE TABLE x (n INTEGER)", "INSERT INTO x VALUES (7)"} {
				if _, err := db.Exec(d); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := other.Exec("INSERT INTO x VALUES (8)"); err == nil {
				t.Error("another database has the table")
			}
			s.Kill()
			s.Restart()
			var n int
			if err := db.QueryRow("SELECT n FROM x").Scan(&n); err != nil || n != 7 {
				t.Errorf("after the restart: %d, %v", n, err)
			}
		})
	}
}

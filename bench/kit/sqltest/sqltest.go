package sqltest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that Open uses
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/server"
)

// startLimit is how long a server may take until it answers; a busy machine is slow, and after a
// kill there is a log to read.
const startLimit = 60 * time.Second

// Server is a running database server. Its methods but Open are for the goroutine of the test.
type Server struct {
	*server.Server
	brand     brand
	dir       string       // of its data
	databases atomic.Int32 // made so far
}

// brand is what the two do differently.
type brand struct {
	name, program, user string
	create              func(dir string) []string       // makes an empty data folder
	serve               func(dir, port string) []string // arguments of program
	driver              string
	dsn                 func(addr, database string) string
	folder              string // query for the data folder, by which the server is told from another one on its port
	first               string // database that is there
}

var mariadb = brand{
	name: "MariaDB", program: "mariadbd", user: "mysql",
	create: func(dir string) []string {
		// A tmpdir of its own: a server that starts clears away the temporary tables that it finds,
		// also those of another one that runs.
		return []string{"mariadb-install-db", "--no-defaults", "--datadir=" + dir,
			"--auth-root-authentication-method=normal", "--skip-test-db",
			"--innodb-log-file-size=16M", "--tmpdir=" + filepath.Dir(dir)}
	},
	serve: func(dir, port string) []string {
		// Commits reach the operating system, which outlives a killed server; the disk would only
		// make the tests slow.
		return []string{"--no-defaults", "--datadir=" + dir, "--bind-address=127.0.0.1", "--port=" + port,
			"--socket=" + filepath.Join(dir, "s"),
			"--pid-file=" + filepath.Join(dir, "pid"), "--tmpdir=" + filepath.Dir(dir), "--skip-name-resolve",
			"--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M",
			"--innodb-log-file-size=16M", "--performance-schema=OFF", "--max-connections=300"}
	},
	driver: "mysql",
	dsn:    func(addr, database string) string { return "root@tcp(" + addr + ")/" + database },
	folder: "SELECT @@datadir", first: "mysql",
}

var postgres = brand{
	name: "PostgreSQL", program: "postgres", user: "postgres",
	create: func(dir string) []string {
		return []string{"initdb", "--pgdata=" + dir, "--auth=trust", "--username=root", "--no-sync",
			"--encoding=UTF8", "--locale=C"}
	},
	serve: func(dir, port string) []string {
		return []string{"-D", dir, "-h", "127.0.0.1", "-p", port, "-k", "", "-c", "fsync=off", "-c",
			"shared_buffers=32MB", "-c", "max_connections=300"}
	},
	driver: "pgx",
	dsn: func(addr, database string) string {
		return "postgres://root@" + addr + "/" + database + "?sslmode=disable"
	},
	folder: "SHOW data_directory", first: "postgres",
}

// MariaDB starts a MariaDB server; it answers when MariaDB returns.
func MariaDB(t testing.TB) *Server { t.Helper(); return run(t, mariadb) }

// Postgres starts a PostgreSQL server; it answers when Postgres returns.
func Postgres(t testing.TB) *Server { t.Helper(); return run(t, postgres) }

func run(t testing.TB, b brand) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "sqltest-") // not of the test: another user must get to it
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	s := &Server{brand: b, dir: filepath.Join(dir, "data")}
	t.Cleanup(func() { // after the server's own, which ends it
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("sqltest: %v", err)
		}
	})
	if err := s.makeData(dir); err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	s.Server = server.Start(t, server.Options{Name: b.name, Command: s.serve, Ready: s.ready, Limit: startLimit})
	return s
}

func (s *Server) makeData(dir string) error {
	if os.Getuid() == 0 {
		uid, gid, err := ids(s.brand.user)
		if err != nil {
			return err
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	cmd, err := s.command(s.brand.create(s.dir))
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making data of %s: %w: %s", s.brand.name, err, out)
	}
	return nil
}

// ids returns the numbers of the user.
func ids(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// command is a program of the server, run as its user where this is root. setpriv keeps the death
// with the parent, which the kernel forgets at a change of user.
func (s *Server) command(args []string) (*exec.Cmd, error) {
	path, err := child.Find(args[0])
	if err != nil {
		return nil, fmt.Errorf("%s is needed, deploy/testdeps.sh installs it: %w", s.brand.name, err)
	}
	args = slices.Concat([]string{path}, args[1:])
	if os.Getuid() == 0 {
		args = slices.Concat([]string{"setpriv", "--reuid", s.brand.user, "--regid", s.brand.user, "--clear-groups",
			"--pdeathsig", "KILL"}, args)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = filepath.Dir(s.dir)
	return cmd, nil
}

func (s *Server) serve(addr string) (*exec.Cmd, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return s.command(append([]string{s.brand.program}, s.brand.serve(s.dir, port)...))
}

// ready tells whether this server, and no other that came first on the port, answers.
func (s *Server) ready(of *server.Server) bool {
	db, err := sql.Open(s.brand.driver, s.brand.dsn(of.Addr(), s.brand.first))
	if err != nil {
		return false
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var folder string
	err = db.QueryRowContext(ctx, s.brand.folder).Scan(&folder)
	return err == nil && filepath.Clean(folder) == s.dir
}

// Open makes a new, empty database and opens it. What t ends with closes it.
func (s *Server) Open(t testing.TB) *sql.DB {
	t.Helper()
	first, err := sql.Open(s.brand.driver, s.brand.dsn(s.Addr(), s.brand.first))
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	defer first.Close()
	name := "t" + strconv.Itoa(int(s.databases.Add(1)))
	if _, err := first.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	db, err := sql.Open(s.brand.driver, s.brand.dsn(s.Addr(), name))
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Package sqltest starts real database servers, MariaDB and PostgreSQL, for tests: on a free loopback port, in a temporary folder, stopped
// when the test ends. A missing server fails the test; it is never skipped.
//
// Both refuse to run as root. There they run as the users that their packages make, mysql and postgres.
package sqltest

import (
	"bytes"
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
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that Open uses
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

// startTimeout is how long a server may take until it answers; a busy machine is slow, and after a kill there is a log to read.
const startTimeout = 60 * time.Second

// Server is a running database server. Its methods but Open are for the goroutine of the test.
type Server struct {
	t     testing.TB
	brand brand
	dir   string // of its data
	addr  string

	process *child.Process // nil once killed
	log     bytes.Buffer   // read only when the process has ended

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
		// A tmpdir of its own: a server that starts clears away the temporary tables that it finds, also those of another one that runs.
		return []string{"mariadb-install-db", "--no-defaults", "--datadir=" + dir, "--auth-root-authentication-method=normal", "--skip-test-db",
			"--innodb-log-file-size=16M", "--tmpdir=" + filepath.Dir(dir)}
	},
	serve: func(dir, port string) []string {
		// Commits reach the operating system, which outlives a killed server; the disk would only make the tests slow.
		return []string{"--no-defaults", "--datadir=" + dir, "--bind-address=127.0.0.1", "--port=" + port, "--socket=" + filepath.Join(dir, "s"),
			"--pid-file=" + filepath.Join(dir, "pid"), "--tmpdir=" + filepath.Dir(dir), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=32M",
			"--innodb-log-file-size=16M", "--performance-schema=OFF", "--max-connections=300"}
	},
	driver: "mysql",
	dsn:    func(addr, database string) string { return "root@tcp(" + addr + ")/" + database },
	folder: "SELECT @@datadir", first: "mysql",
}

var postgres = brand{
	name: "PostgreSQL", program: "postgres", user: "postgres",
	create: func(dir string) []string {
		return []string{"initdb", "--pgdata=" + dir, "--auth=trust", "--username=root", "--no-sync", "--encoding=UTF8", "--locale=C"}
	},
	serve: func(dir, port string) []string {
		return []string{"-D", dir, "-h", "127.0.0.1", "-p", port, "-k", "", "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=300"}
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
	s := &Server{t: t, brand: b, dir: filepath.Join(dir, "data")}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("sqltest: %v", err)
		}
	})
	if err := s.makeData(dir); err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	for range 5 { // between finding a free port and using it somebody else may take it
		if s.addr, err = freeport.Pick(); err != nil {
			t.Fatalf("sqltest: %v", err)
		}
		if err = s.start(); err == nil {
			return s
		}
		s.Kill()
	}
	t.Fatalf("sqltest: %v", err)
	return nil
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

// command is a program of the server, run as its user where this is root. setpriv keeps the death with the parent, which the kernel forgets
// at a change of user.
func (s *Server) command(args []string) (*exec.Cmd, error) {
	path, err := find(args[0])
	if err != nil {
		return nil, fmt.Errorf("%s is needed: %w", s.brand.name, err)
	}
	args = slices.Concat([]string{path}, args[1:])
	if os.Getuid() == 0 {
		args = slices.Concat([]string{"setpriv", "--reuid", s.brand.user, "--regid", s.brand.user, "--clear-groups", "--pdeathsig", "KILL"}, args)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = filepath.Dir(s.dir)
	return cmd, nil
}

// find looks also where Debian puts what is not meant to be run by hand; of several versions it takes the last.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, pattern := range []string{"/usr/sbin/" + program, "/usr/lib/postgresql/*/bin/" + program} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", err
}

func (s *Server) start() error {
	s.log.Reset()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	cmd, err := s.command(append([]string{s.brand.program}, s.brand.serve(s.dir, port)...))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if s.process, err = child.Start(cmd); err != nil {
		return err
	}
	db, err := sql.Open(s.brand.driver, s.brand.dsn(s.addr, s.brand.first))
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s.answers(db) {
			return nil
		}
		select {
		case <-s.process.Done():
			return fmt.Errorf("%s on %s ended: %s", s.brand.name, s.addr, s.log.String())
		default:
		}
	}
	return fmt.Errorf("%s on %s does not answer after %v", s.brand.name, s.addr, startTimeout)
}

// answers tells whether this server, and no other that came first on the port, is ready.
func (s *Server) answers(db *sql.DB) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var folder string
	err := db.QueryRowContext(ctx, s.brand.folder).Scan(&folder)
	return err == nil && filepath.Clean(folder) == s.dir
}

// Addr returns the server's host:port; it stays over a Restart.
func (s *Server) Addr() string { return s.addr }

// Open makes a new, empty database and opens it. What t ends with closes it.
func (s *Server) Open(t testing.TB) *sql.DB {
	t.Helper()
	first, err := sql.Open(s.brand.driver, s.brand.dsn(s.addr, s.brand.first))
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	defer first.Close()
	name := "t" + strconv.Itoa(int(s.databases.Add(1)))
	if _, err := first.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	db, err := sql.Open(s.brand.driver, s.brand.dsn(s.addr, name))
	if err != nil {
		t.Fatalf("sqltest: %v", err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Kill ends the server at once (SIGKILL) and waits for it. Killing a dead server does nothing.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.process.Signal(syscall.SIGKILL)
	select {
	case <-s.process.Done():
		s.process = nil
	case <-time.After(startTimeout):
		s.t.Errorf("sqltest: process %d does not end", s.process.PID())
	}
}

// Restart starts a killed server again on the same address and folder; it answers when Restart returns.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	var err error
	// PostgreSQL's sessions notice the end of their parent a moment later, and until then the folder is taken.
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = s.start(); err == nil {
			return
		}
		s.Kill()
	}
	s.t.Fatalf("sqltest: %v", err)
}

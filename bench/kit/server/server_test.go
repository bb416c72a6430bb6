package server_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
	"github.com/sluice-gateway/sluice/bench/kit/server"
)

// The test binary plays the server: it listens on the address that the environment names, says so,
// and ends at SIGTERM.
func TestMain(m *testing.M) {
	if addr := os.Getenv("SERVER_TEST_ADDR"); addr != "" {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		if _, err := net.Listen("tcp", addr); err != nil {
			panic(err)
		}
		fmt.Println("serving " + addr)
		<-ended
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(t *testing.T) *server.Server {
	t.Helper()
	return server.Start(t, server.Options{
		Name: "test server",
		Command: func(addr string) (*exec.Cmd, error) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "SERVER_TEST_ADDR="+addr)
			return cmd, nil
		},
		Ready: func(s *server.Server) bool { return strings.Contains(s.Output(), "serving "+s.Addr()+"\n") },
		Limit: 20 * time.Second,
	})
}

func accepts(s *server.Server) bool {
	conn, err := net.Dial("tcp", s.Addr())
	return err == nil && conn.Close() == nil
}

func TestServerComesBackOnItsAddress(t *testing.T) {
	t.Parallel()
	s := start(t)
	addr, pid := s.Addr(), s.PID()
	if !accepts(s) {
		t.Error("it accepts no connection once it is started")
	}
	s.Kill()
	s.Kill() // a dead one
	if accepts(s) {
		t.Error("it accepts connections once it is killed")
	}
	s.Restart()
	if s.Addr() != addr || s.PID() == pid || !accepts(s) {
		t.Errorf("at %s, process %d, after a restart of process %d at %s", s.Addr(), s.PID(), pid, addr)
	}
	s.Restart() // while it runs
	if !accepts(s) {
		t.Error("it accepts no connection after the second restart")
	}
	s.Stop(20 * time.Second)
	if accepts(s) {
		t.Error("it accepts connections once it has stopped")
	}
}

// TestServersAreInstalled: every program of others that the kit and its users run is there, and the
// script that installs them knows it.
func TestServersAreInstalled(t *testing.T) {
	t.Parallel()
	script := filepath.Join(build.Root(t), "deploy", "testdeps.sh")
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"redis-server", "mariadbd", "postgres", "nginx", "haproxy", "curl", "node",
		"npm"} {
		if _, err := child.Find(program); err != nil {
			t.Errorf("%s is missing: run %s, which installs it (%v)", program, script, err)
		}
		if !strings.Contains(string(text), "command -v "+program+" ") {
			t.Errorf("%s does not look for %s", script, program)
		}
	}
	if _, err := envoytest.Path(); err != nil || !strings.Contains(string(text), "envoy="+envoytest.Version+"\n") {
		t.Errorf("Envoy %s is missing, or %s installs another one (%v)", envoytest.Version, script, err)
	}
	for with, program := range map[string]string{"mariadbd": "mariadb-install-db", "postgres": "initdb",
		"util-linux": "setpriv"} {
		if _, err := child.Find(program); err != nil {
			t.Errorf("%s, which comes with %s, is missing: run %s (%v)", program, with, script, err)
		}
	}
}

package dtmtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/server"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 40 * time.Second // more than the coordinator gives what is in flight
)

// Options are the settings of a coordinator.
type Options struct {
	Dir  string   // of the store; empty: a temporary folder of the test
	Args []string // further flags of sluice-dtm
	Env  []string // further variables, NAME=value
}

// Coordinator is one sluice-dtm process. Its methods are for the goroutine of the test; the test's
// end stops it.
type Coordinator struct {
	*server.Server
	URL string // http://127.0.0.1:port, the same after a restart
}

// Start starts a coordinator on a free port and returns when it serves.
func Start(t testing.TB, o Options) *Coordinator {
	t.Helper()
	program := build.Coordinator(t)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s := server.Start(t, server.Options{
		Name: "sluice-dtm",
		Command: func(addr string) (*exec.Cmd, error) {
			cmd := exec.Command(program, append([]string{"--listen", addr, "--data", o.Dir}, o.Args...)...)
			cmd.Env = append(os.Environ(), o.Env...)
			return cmd, nil
		},
		Ready: func(s *server.Server) bool {
			return strings.Contains(s.Output(), "sluice-dtm listening on "+s.Addr()+"\n")
		},
		Limit: startLimit,
	})
	return &Coordinator{Server: s, URL: "http://" + s.Addr()}
}

// Stop ends the process by SIGTERM and fails the test when it does not exit with 0.
func (c *Coordinator) Stop() { c.Server.Stop(stopLimit) }

package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

// Options say what is run.
type Options struct {
	Name string // in messages

	// Command returns the command line for an address, host:port. It is called at every start.
	Command func(addr string) (*exec.Cmd, error)

	// Ready reports whether the server serves. It must not take another server, that came first on
	// the port, for this one.
	Ready func(s *Server) bool

	Limit time.Duration // how long a start may take; a busy machine is slow
}

// Server is a server that was started. Its methods are for the goroutine of the test.
type Server struct {
	t       testing.TB
	o       Options
	addr    string
	process *child.Process // nil once it was killed
	output  *child.Output  // of the last start
}

// Start starts a server on a free port; it is ready when Start returns.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, o: o}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() && s.output != nil {
			t.Logf("output of %s on %s:\n%s", o.Name, s.addr, s.output.String())
		}
	})
	var err error
	for range 5 { // between finding a free port and using it another process may take it
		if s.addr, err = freeport.Pick(); err != nil {
			t.Fatalf("server: %v", err)
		}
		if err = s.start(); err == nil {
			return s
		}
		s.Kill()
	}
	t.Fatalf("server: %v", err)
	return nil
}

func (s *Server) start() error {
	cmd, err := s.o.Command(s.addr)
	if err != nil {
		return err
	}
	s.output = new(child.Output)
	cmd.Stdout, cmd.Stderr = s.output, s.output
	if s.process, err = child.Start(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Limit)
	defer cancel()
	if err := s.process.Await(ctx, func() bool { return s.o.Ready(s) }); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", s.o.Name, s.addr, err, s.output.String())
	}
	return nil
}

// Addr returns the server's host:port; it stays the same over a Restart.
func (s *Server) Addr() string { return s.addr }

// PID returns the id of a running server's process.
func (s *Server) PID() int { return s.process.PID() }

// Output returns what the server wrote since its last start.
func (s *Server) Output() string { return s.output.String() }

// Kill ends the server at once (SIGKILL) and waits for it. Killing a dead server does nothing.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.Kill()
		s.process = nil
	}
}

// Stop ends the server by SIGTERM and fails the test unless it exits with 0 within the limit.
func (s *Server) Stop(limit time.Duration) {
	s.t.Helper()
	if err := s.process.Stop(limit); err != nil {
		s.t.Fatalf("server: %s after SIGTERM: %v: %s", s.o.Name, err, s.output.String())
	}
	s.process = nil
}

// Restart starts the server again on the same address, killing it first if it still runs; it is
// ready when Restart returns.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	var err error
	// What the killed one has left may keep the port or the data busy for a moment.
	for deadline := time.Now().Add(s.o.Limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = s.start(); err == nil {
			return
		}
		s.Kill()
	}
	s.t.Fatalf("server: %v", err)
}

// Pause stops the server's process (SIGSTOP): it keeps its connections and serves nothing. SIGKILL
// at the test's end works on it too.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused server.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig os.Signal) {
	s.t.Helper()
	if s.process == nil {
		s.t.Fatalf("server: %v to a dead server", sig)
	}
	s.process.Signal(sig)
}

// Find returns the path of a server's program, as [child.Find] does. A program that is not there
// fails the test.
func Find(t testing.TB, program string) string {
	t.Helper()
	path, err := child.Find(program)
	if err != nil {
		t.Fatalf("server: %v; deploy/testdeps.sh installs what the tests need", err)
	}
	return path
}

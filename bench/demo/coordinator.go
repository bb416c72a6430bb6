package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
)

const (
	coordinatorProgram = "sluice-dtm"
	coordinatorStop    = 5 * time.Second
	restartPauseMin    = 200 * time.Millisecond
	restartPauseMax    = 5 * time.Second
)

// FindCoordinator returns the program: the given one, the one beside this executable, or the one in
// PATH.
func FindCoordinator(given string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("demo: the coordinator's program: %w", err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), coordinatorProgram)
		if path, err := exec.LookPath(beside); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(coordinatorProgram); err == nil {
		return filepath.Abs(path)
	}
	return "", fmt.Errorf("demo: the program %s is neither beside this one nor in PATH: `make build` makes both, "+
		"--dtm names another place", coordinatorProgram)
}

// coordinator is the child process with the transaction coordinator.
type coordinator struct {
	program string
	address string // host:port
	data    string
	errors  io.Writer // its log
	log     *slog.Logger
}

func (c *coordinator) command() *exec.Cmd {
	cmd := exec.Command(c.program, "--listen", c.address, "--data", c.data, "--log-level", "warn", "--cron", "1s")
	// DTM's logger reads it before any flag and complains when it is not there
	cmd.Env = append(os.Environ(), "LOG_LEVEL=warn")
	cmd.Stderr = c.errors
	return cmd
}

// supervise keeps the coordinator running until ctx ends, then stops it. The error is nil.
func (c *coordinator) supervise(ctx context.Context) error {
	pause := restartPauseMin
	for {
		began := time.Now()
		err := c.runOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > restartPauseMax {
			pause = restartPauseMin
		}
		c.log.Error("the coordinator ended unexpectedly; restarting it", "error", err, "in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, restartPauseMax)
	}
}

// runOnce runs the program until it ends or ctx does.
func (c *coordinator) runOnce(ctx context.Context) error {
	p, err := child.Start(c.command())
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
		if err := p.Err(); err != nil {
			return err
		}
		return errors.New("exit code 0")
	case <-ctx.Done():
		if err := p.Stop(coordinatorStop); err != nil {
			c.log.Warn("the coordinator did not stop cleanly", "error", err)
		}
		return nil
	}
}

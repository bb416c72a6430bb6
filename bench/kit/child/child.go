package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a child that was started. It is safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; read after done is closed
}

// Start starts cmd, whose SysProcAttr it sets.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = attributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel watches this thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("child: %w", err)
	}
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and its output is whole.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end and returns how it ended: nil is exit code 0, else an [*exec.ExitError].
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the child; without effect once it has ended.
func (p *Process) Signal(s os.Signal) {
	// The only errors are that it has ended, and that is what the caller wants or learns from Err.
	_ = p.cmd.Process.Signal(s)
}

// pollEvery is how often Await looks.
const pollEvery = 5 * time.Millisecond

// Await waits until the child is ready. The error says that it ended before, or that ctx did.
func (p *Process) Await(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			if p.err != nil {
				return fmt.Errorf("child: ended before it was ready: %w", p.err)
			}
			return errors.New("child: ended before it was ready, with exit code 0")
		case <-ctx.Done():
			return fmt.Errorf("child: not ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Kill ends the child at once and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the child to end, kills it after the limit, waits for the end and returns Err.
func (p *Process) Stop(limit time.Duration) error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Signal(syscall.SIGKILL)
	}
	return p.Err()
}

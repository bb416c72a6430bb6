package child

import (
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

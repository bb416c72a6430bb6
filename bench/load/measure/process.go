package measure

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 5 * time.Second
)

// Process is a contender or an upstream that runs.
type Process struct {
	*child.Process
	program string // its name, without the folder
	Site    Site
	said    output
}

// output keeps the beginning of what a process writes. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text []byte
}

const outputBytesMax = 4 << 10

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b[:min(len(b), outputBytesMax-len(o.text))]...)
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(bytes.TrimSpace(o.text))
}

// StartProcess runs a command and returns when it accepts connections.
func StartProcess(ctx context.Context, cmd *exec.Cmd, s Site) (*Process, error) {
	p := &Process{program: filepath.Base(cmd.Path), Site: s}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	c, err := child.Start(cmd)
	if err != nil {
		return nil, err
	}
	p.Process = c
	if err := p.waitAccepting(ctx); err != nil {
		p.Shutdown()
		return nil, err
	}
	return p, nil
}

func (p *Process) waitAccepting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", p.Site.Listen)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.Done():
			return fmt.Errorf("ended at its start: %v: %s", p.Err(), p.said.String())
		case <-ctx.Done():
			return fmt.Errorf("accepts no connection: %w: %s", ctx.Err(), p.said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Shutdown ends the process. How it ends is of no interest: its work was to be measured.
func (p *Process) Shutdown() { _ = p.Stop(stopLimit) }

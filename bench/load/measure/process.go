package measure

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
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
	output  child.Output
}

const outputBytesMax = 4 << 10

// StartProcess runs a command and returns when it accepts connections.
func StartProcess(ctx context.Context, cmd *exec.Cmd, s Site) (*Process, error) {
	p := &Process{program: filepath.Base(cmd.Path), Site: s, output: child.Output{BytesMax: outputBytesMax}}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
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

// waitAccepting waits until the process accepts connections.
func (p *Process) waitAccepting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var dialer net.Dialer
	err := p.Await(ctx, func() bool {
		conn, err := dialer.DialContext(ctx, "tcp", p.Site.Listen)
		return err == nil && conn.Close() == nil
	})
	if err != nil {
		return fmt.Errorf("%s accepts no connection: %w: %s", p.program, err, strings.TrimSpace(p.output.String()))
	}
	return nil
}

// Shutdown ends the process. How it ends is of no interest: its work was to be measured.
func (p *Process) Shutdown() { _ = p.Stop(stopLimit) }

package flashsale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/freeport"
)

const (
	startLimit = 60 * time.Second // on a busy machine
	probeLimit = time.Second
)

// part is one process of a run. It is for one goroutine at a time.
type part struct {
	name    string
	command func() *exec.Cmd
	ready   func(ctx context.Context) bool
	logPath string
	process *child.Process // nil: not started, or killed
}

// start runs the program, for the first time or again, and returns when it is ready.
func (p *part) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("flashsale: %w", err)
	}
	defer log.Close()
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = log, log
	if p.process, err = child.Start(cmd); err != nil {
		return fmt.Errorf("flashsale: %s: %w", p.name, err)
	}
	if err := p.process.Await(ctx, func() bool { return p.ready(ctx) }); err != nil {
		p.kill()
		return fmt.Errorf("flashsale: %s: %w: %s", p.name, err, lastLines(p.logPath))
	}
	return nil
}

// kill ends the process at once.
func (p *part) kill() {
	if p.process != nil {
		p.process.Kill()
		p.process = nil
	}
}

// pid is 0 when it does not run.
func (p *part) pid() int {
	if p == nil || p.process == nil {
		return 0
	}
	return p.process.PID()
}

// lastLines is the end of a log, as one line.
func lastLines(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const bytesMax = 600
	text = text[max(0, len(text)-bytesMax):]
	return strings.Join(strings.Fields(string(text)), " ")
}

// accepts tells whether somebody listens on an address.
func accepts(address string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		conn, err := (&net.Dialer{Timeout: probeLimit}).DialContext(ctx, "tcp", address)
		return err == nil && conn.Close() == nil
	}
}

// answers tells whether a URL gives 200.
func answers(url string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}

// site is the folder of a run, and what was started in it.
type site struct {
	dir   string
	parts []*part // in the order of their start
}

// add makes a part whose log is in the folder.
func (s *site) add(name string, ready func(context.Context) bool, command func() *exec.Cmd) *part {
	p := &part{name: name, command: command, ready: ready, logPath: filepath.Join(s.dir, name+".log")}
	s.parts = append(s.parts, p)
	return p
}

// stop ends everything at once, the last started first: all that is of interest has been read, and
// to drain what a control has piled up takes long.
func (s *site) stop() {
	for i := len(s.parts) - 1; i >= 0; i-- {
		s.parts[i].kill()
	}
}

// pickAddresses returns n free addresses.
func pickAddresses(n int) ([]string, error) {
	var all []string
	for range n {
		a, err := freeport.Pick()
		if err != nil {
			return nil, fmt.Errorf("flashsale: %w", err)
		}
		all = append(all, a)
	}
	return all, nil
}

// notInstalled says that a control cannot be run here.
type notInstalled struct{ program string }

func (e *notInstalled) Error() string { return e.program + " is not installed" }

// find looks up a program that may be missing.
func find(program string) (string, error) {
	path, err := child.Find(program)
	if err != nil {
		return "", &notInstalled{program}
	}
	return path, nil
}

// isNotInstalled tells a missing program from a fault.
func isNotInstalled(err error) bool {
	_, missing := errors.AsType[*notInstalled](err)
	return missing
}

package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/child"
	"github.com/sluice-gateway/sluice/bench/kit/server"
)

// Version is that of the Envoy that the tests run; deploy/testdeps.sh installs it.
const Version = "1.40.0"

// startTimeout is how long an Envoy may take until it responds; a busy machine is slow.
const startTimeout = 60 * time.Second

// Path returns where the Envoy of that version is: where deploy/testdeps.sh puts it, or in PATH.
func Path() (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		if path, err := exec.LookPath(filepath.Join(cache, "sluice", "envoy-"+Version, "envoy")); err == nil {
			return path, nil
		}
	}
	path, err := child.Find("envoy")
	if err != nil {
		return "", fmt.Errorf("envoytest: Envoy %s is needed, deploy/testdeps.sh installs it: %w", Version, err)
	}
	says, err := exec.Command(path, "--version").Output()
	if err != nil || !strings.Contains(string(says), "/"+Version+"/") {
		return "", fmt.Errorf("envoytest: %s is not Envoy %s, deploy/testdeps.sh installs that: %q, %w", path, Version,
			says, err)
	}
	return path, nil
}

// Options say what an Envoy is started with.
type Options struct {
	Control string // the control plane's address, host:port
	Node    string // the node's id
	SotW    bool   // the whole state of the world at each change, in place of what changed

	// File is a file of deploy/envoy in place of the users' bootstrap; Ports are those in it that the
	// test has others for.
	File  string
	Ports map[string]string
}

// Envoy is a running one. Its methods are for the goroutine of the test.
type Envoy struct {
	t testing.TB
	*server.Server
}

// Start starts an Envoy; its admin address responds when Start returns. It may not have a
// configuration by then: see [Envoy.Await].
func Start(t testing.TB, o Options) *Envoy {
	t.Helper()
	path, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.yaml")
	s := server.Start(t, server.Options{
		Name: "Envoy",
		Command: func(admin string) (*exec.Cmd, error) {
			text, err := bootstrap(t, o, admin)
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return nil, err
			}
			return command(path, "--config-path", file), nil
		},
		Ready: func(s *server.Server) bool {
			info, err := get(s.Addr(), "/server_info")
			return err == nil && strings.Contains(info, fmt.Sprintf("%q", file)) // no other Envoy
		},
		Limit: startTimeout,
	})
	return &Envoy{t, s}
}

// command runs Envoy with little noise, and with nothing that two of them on one machine would share.
func command(path string, args ...string) *exec.Cmd {
	return exec.Command(path, append(args, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")...)
}

// bootstrap is the users' one, with the addresses of a test.
func bootstrap(t testing.TB, o Options, admin string) ([]byte, error) {
	if o.File == "" {
		o.File = "bootstrap.yaml"
	}
	text, err := os.ReadFile(filepath.Join(build.Root(t), "deploy", "envoy", o.File))
	if err != nil {
		return nil, err
	}
	ports := map[string]string{"9901": admin}
	maps.Copy(ports, o.Ports)
	if o.Control != "" {
		ports["18000"] = o.Control
	}
	changes := [][2]string{}
	for port, address := range ports {
		_, other, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		changes = append(changes, [2]string{"port_value: " + port + "}", "port_value: " + other + "}"})
	}
	if o.Node != "" {
		changes = append(changes, [2]string{"id: envoy-1", "id: " + o.Node})
	}
	if o.SotW {
		changes = append(changes, [2]string{"api_type: DELTA_GRPC", "api_type: GRPC"})
	}
	out := string(text)
	for _, change := range changes {
		if strings.Count(out, change[0]) != 1 {
			return nil, fmt.Errorf("envoytest: %s has %q not once", o.File, change[0])
		}
		out = strings.Replace(out, change[0], change[1], 1)
	}
	return []byte(out), nil
}

// Validate asks Envoy whether it takes a bootstrap in JSON, without starting anything.
func Validate(t testing.TB, bootstrap []byte) {
	t.Helper()
	path, err := Path()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	cmd := command(path, "--mode", "validate", "--config-path", file)
	out := new(child.Output)
	cmd.Stdout, cmd.Stderr = out, out
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
	}
	if err := p.Err(); err != nil {
		t.Fatalf("envoytest: Envoy does not take the configuration: %v\n%s", err, out.String())
	}
}

// Await waits until something is true of Envoy, or fails the test.
func (e *Envoy) Await(what string, is func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(startTimeout); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("envoytest: not within %s: %s\n%s", startTimeout, what, e.Output())
		}
	}
}

// AwaitListening waits until Envoy takes connections at an address.
func (e *Envoy) AwaitListening(address string) {
	e.t.Helper()
	e.Await("listening on "+address, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close() // it was only to see
		}
		return err == nil
	})
}

// Stat returns a counter or gauge by its name, 0 where there is none.
func (e *Envoy) Stat(name string) int {
	e.t.Helper()
	text, err := get(e.Addr(), "/stats?format=json&filter="+name)
	if err != nil {
		e.t.Fatalf("envoytest: %v", err)
	}
	var all struct {
		Stats []struct {
			Name  string
			Value int
		}
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		e.t.Fatalf("envoytest: %v: %s", err, text)
	}
	for _, s := range all.Stats {
		if s.Name == name {
			return s.Value
		}
	}
	return 0
}

var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func get(addr, path string) (string, error) {
	r, err := client.Get("http://" + addr + path)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

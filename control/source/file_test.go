package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// sink reports what it is given, and refuses what refuse says.
type sink struct {
	applied chan *config.Config
	refused chan error
	refuse  func(*config.Config) error

	endpoints chan string
}

func newSink() *sink {
	return &sink{
		applied: make(chan *config.Config, 16), refused: make(chan error, 16),
		refuse: func(*config.Config) error { return nil }, endpoints: make(chan string, 1000),
	}
}

func (s *sink) Apply(cfg *config.Config) error {
	err := s.refuse(cfg)
	if err == nil {
		s.applied <- cfg
	} else {
		s.refused <- err
	}
	return err
}

func (s *sink) Refuse(err error) { s.refused <- err }

func (s *sink) SetEndpoints(service string, endpoints []config.Endpoint) {
	s.endpoints <- fmt.Sprintf("%s %v", service, endpoints)
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s within 20 s", what)
		panic("unreachable")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func watch(t *testing.T, f *File, s *sink) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Watch(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, ended, "end of Watch"); err != nil {
			t.Error(err)
		}
	})
}

func configOf(status string) string {
	return "version: 1\nroutes:\n  - {name: a, match: {path: /a}, respond: {status: " + status + "}}\n"
}

func TestFileGivesChangesAndFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	write(t, path, configOf("200"))
	f := &File{Path: path}
	first, err := f.First(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newSink()
	watch(t, f, s)

	write(t, path, configOf("201"))
	second := receive(t, s.applied, "changed configuration")
	if second.Hash() == first.Hash() || second.Routes[0].Respond.Status != 201 {
		t.Errorf("status %d, want 201", second.Routes[0].Respond.Status)
	}
	write(t, path, "version: 1\nruotes: []\n")
	var fault *config.FaultsError
	if err := receive(t, s.refused, "refusal"); !errors.As(err, &fault) {
		t.Errorf("refused with %v, want the faults of the file", err)
	}
	write(t, path, configOf("202"))
	if cfg := receive(t, s.applied, "mended configuration"); cfg.Routes[0].Respond.Status != 202 {
		t.Errorf("status %d, want 202", cfg.Routes[0].Respond.Status)
	}
}

func TestFileGivesWhatChangedBeforeWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	write(t, path, configOf("200"))
	f := &File{Path: path}
	if _, err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, path, configOf("201"))
	s := newSink()
	watch(t, f, s)
	if cfg := receive(t, s.applied, "change"); cfg.Routes[0].Respond.Status != 201 {
		t.Errorf("status %d, want 201", cfg.Routes[0].Respond.Status)
	}
}

func TestFileReloadsWhenAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	write(t, path, configOf("200"))
	reload := make(chan struct{})
	f := &File{Path: path, Reload: reload}
	if _, err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSink()
	s.refuse = func(*config.Config) error { return errors.New("not this one") }
	watch(t, f, s)
	for range 2 { // a refused configuration is given again, unchanged as it is
		reload <- struct{}{}
		receive(t, s.refused, "refusal")
	}
}

func TestFolderNoticesNewFiles(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "a.yaml"), configOf("200"))
	f := &File{Path: folder}
	if _, err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newSink()
	watch(t, f, s)
	write(t, filepath.Join(folder, "b.yaml"), "limits:\n  l: {scope: local, rate: 1/s}\n")
	if cfg := receive(t, s.applied, "configuration with the new file"); cfg.Limits["l"] == nil {
		t.Error("the new file is not in the configuration")
	}
}

func TestFirstReportsFaults(t *testing.T) {
	f := &File{Path: filepath.Join(t.TempDir(), "absent.yaml")}
	if _, err := f.First(t.Context()); err == nil {
		t.Error("no error for a file that is not there")
	}
}

// TestFileFindsEndpoints: endpoints that come from elsewhere are known when a configuration is put in force, they
// follow without a reload, and a configuration that is refused has nothing asked for.
func TestFileFindsEndpoints(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sluice.yaml")
	write(t, filepath.Join(dir, "a.txt"), "10.0.0.1:80\n")
	write(t, filepath.Join(dir, "b.txt"), "10.0.0.2:80\n")
	text := "version: 1\nservices:\n  a: {endpointsFrom: {file: a.txt}}\n"
	write(t, path, text)
	f := &File{Path: path}
	if _, err := f.First(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := f.Discovered()["a"]; len(found) != 1 || found[0].Address != "10.0.0.1:80" {
		t.Errorf("at first there is %v", f.Discovered())
	}
	s := newSink()
	watch(t, f, s)
	want := func(service, address string) {
		t.Helper()
		for {
			got := receive(t, s.endpoints, "endpoints")
			if strings.HasPrefix(got, service+" ") && strings.Contains(got, address) {
				return
			}
		}
	}
	want("a", "10.0.0.1:80")
	write(t, filepath.Join(dir, "a.txt"), "10.0.0.3:80\n")
	want("a", "10.0.0.3:80")
	if n := len(s.applied); n != 0 {
		t.Errorf("the configuration was applied %d times for other endpoints", n)
	}
	write(t, path, text+"  b: {endpointsFrom: {file: b.txt}}\n")
	want("b", "10.0.0.2:80") // before it is in force
	receive(t, s.applied, "configuration")
	s.refuse = func(*config.Config) error { return errors.New("not this one") }
	write(t, path, text+"  b: {endpointsFrom: {file: a.txt}}\n  c: {endpointsFrom: {file: a.txt}}\n")
	receive(t, s.refused, "refusal")
	if found := f.Discovered(); len(found) != 2 || found["b"][0].Address != "10.0.0.2:80" {
		t.Errorf("behind a refusal there is %v", found)
	}
	if all := f.Finding(); len(all) != 2 || all[1].Service != "b" || all[1].Fault != "" {
		t.Errorf("the sources stand as %+v", all)
	}
}

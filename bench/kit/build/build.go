package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the folder of the programs that this test binary built; Main removes it.
var built struct {
	sync.Mutex
	removed bool // by Main, at the end: there is one
	dir     string
}

// Main runs the tests, removes what was built for them and exits.
func Main(m *testing.M) {
	built.Lock()
	built.removed = true
	built.Unlock()
	code := m.Run()
	built.Lock()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
		}
	}
	os.Exit(code)
}

// Sluice returns the path of the gateway's program.
func Sluice(t testing.TB) string {
	t.Helper()
	var flags []string
	if raceDetector {
		flags = []string{"-race"}
	}
	return program(t, "SLUICE_BIN", "sluice", ".", "./cmd/sluice", flags...)
}

// Coordinator returns the path of the coordinator's program.
func Coordinator(t testing.TB) string {
	t.Helper()
	return program(t, "SLUICE_DTM", "sluice-dtm", "cmd/sluice-dtm", ".")
}

// Examples returns the path of the services behind deploy/examples.
func Examples(t testing.TB) string {
	t.Helper()
	return program(t, "SLUICE_EXAMPLES", "sluice-examples", ".", "./deploy/examples/services")
}

// program returns the program that the environment names, or builds it from the package seen from
// folder.
func program(t testing.TB, variable, name, folder, pkg string, flags ...string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	built.Lock()
	defer built.Unlock()
	if !built.removed {
		t.Fatal("build: this test binary needs func TestMain(m *testing.M) { build.Main(m) }")
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "sluice-build-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	args := append(append([]string{"build"}, flags...), "-o", path, pkg)
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join(Root(t), folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: go %v in %s: %v\n%s", args, folder, err, out)
	}
	return path
}

// Root returns the top folder of the checkout: the nearest one above that holds the main module.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "sluice")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("build: not inside the checkout")
		}
		dir = parent
	}
}

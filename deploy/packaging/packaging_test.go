package packaging

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// versions of the tools from PyPI; deploy/testdeps.sh has the same.
const toolsVersion = "1"

// tool returns a program that deploy/testdeps.sh installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "sluice", "packaging-"+toolsVersion, "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is needed, deploy/testdeps.sh installs it: %v", name, err)
	}
	return path
}

// run runs a program and returns all that it says; it has to succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// read returns a file of the repository.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write writes a file of this test and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sluice returns the gateway's program, which make builds.
func sluice(t *testing.T) string {
	t.Helper()
	path := os.Getenv("SLUICE")
	if path == "" {
		t.Fatal("SLUICE names no program: make packaging builds it and runs these tests")
	}
	return path
}

var secret = regexp.MustCompile(`/etc/sluice-secrets/([a-z.-]+)`)

// validate runs a configuration through the gateway's own check, warnings included. Each secret that it reads is there.
func validate(t *testing.T, name, text string) {
	t.Helper()
	dir := t.TempDir()
	for _, m := range secret.FindAllStringSubmatch(text, -1) {
		write(t, dir, m[1], base64.StdEncoding.EncodeToString(make([]byte, 32)))
	}
	text = strings.ReplaceAll(text, "/etc/sluice-secrets", dir)
	out, err := exec.CommandContext(t.Context(), sluice(t), "validate", "--strict",
		write(t, dir, "sluice.yaml", text)).CombinedOutput()
	if err != nil {
		t.Errorf("the configuration of %s: %v\n%s", name, err, out)
	}
}

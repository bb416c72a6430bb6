package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFmt(t *testing.T) {
	t.Parallel()
	const text, usual = "listen:\n    http: 127.0.0.1:1   # ours\nversion:   1\n",
		"version: 1\nlisten:\n  http: 127.0.0.1:1   # ours\n"
	odd, faulty := writeConfig(t, text), writeConfig(t, "a: [\n")
	if stdout, stderr, code := run("fmt", odd); code != 0 || stdout != usual {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if stdout, _, code := run("fmt", "--check", odd); code != 1 || stdout != odd+"\n" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	// A faulty file is refused, and nothing is written of the others.
	if stdout, stderr, code := run("fmt", "-w", odd, faulty); code != 2 || stdout != "" ||
		!strings.HasPrefix(stderr, faulty+":1:4: syntax") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if b, err := os.ReadFile(odd); err != nil || string(b) != text {
		t.Errorf("%v: %s", err, b)
	}
	// A link stays one, and so do the permissions.
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink(odd, link); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := run("fmt", "-w", "-c", link); code != 0 || stdout+stderr != "" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile(odd)
	info, statErr := os.Lstat(link)
	if err != nil || statErr != nil || string(b) != usual || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v, %v: %s", err, statErr, b)
	}
	if info, err := os.Stat(odd); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(odd)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if stdout, _, code := run("fmt", "--check", odd); code != 0 || stdout != "" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	for _, args := range [][]string{{"fmt"}, {"fmt", "-w", "--check", odd}, {"fmt", gone}} {
		if _, stderr, code := run(args...); code != 2 || stderr == "" {
			t.Errorf("%q: exit %d: %s", args, code, stderr)
		}
	}
}

// TestExamplesHaveTheirUsualForm: what the repository shows is how fmt writes it.
func TestExamplesHaveTheirUsualForm(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("%d examples, %v", len(examples), err)
	}
	if stdout, stderr, code := run(append([]string{"fmt", "--check"}, examples...)...); code != 0 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestReadBuildInfo(t *testing.T) {
	t.Parallel()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	stamp := func(mainVersion string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: mainVersion}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: commit}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	clean := debug.BuildSetting{Key: "vcs.modified", Value: "false"}
	for _, c := range []struct {
		name     string
		override string
		info     *debug.BuildInfo
		version  string
		text     string // what is printed between the program's name and the version of Go
	}{
		{"nothing known", "", stamp(""), "devel", "devel"},
		{"a checkout", "", stamp("(devel)", revision, clean), "devel-0123456789ab",
			"devel-0123456789ab (commit " + commit + ")"},
		{"a changed checkout", "", stamp("(devel)", modified, revision), "devel-0123456789ab+changed",
			"devel-0123456789ab+changed (commit " + commit + ", modified)"},
		{"a release", "", stamp("v1.2.3"), "v1.2.3", "v1.2.3"},
		{"a tagged checkout", "", stamp("v1.2.3+dirty", revision, modified), "v1.2.3+dirty",
			"v1.2.3+dirty (commit " + commit + ", modified)"},
		{"a given version", "v9", stamp("v1.2.3", revision, clean), "v9", "v9 (commit " + commit + ")"},
		{"a short revision", "", stamp("", debug.BuildSetting{Key: "vcs.revision", Value: "7"}), "devel-7",
			"devel-7 (commit 7)"},
	} {
		b := readBuildInfo(c.override, c.info)
		want := "sluice " + c.text + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
		if b.version != c.version || b.String() != want {
			t.Errorf("%s: version %s, want %s; text %q, want %q", c.name, b.version, c.version, b, want)
		}
	}
}

func TestVersionCommandAndFlagSayTheSame(t *testing.T) {
	t.Parallel()
	command, _, _ := run("version")
	flag, _, code := run("--version")
	if code != 0 || command != flag || !strings.HasPrefix(command, "sluice ") ||
		!strings.Contains(command, runtime.Version()) {
		t.Errorf("exit %d; version says %q, --version %q", code, command, flag)
	}
}

// The binary as make build makes it needs no libraries of the machine, and knows the version that
// it was given.
func TestBinaryIsStaticAndKnowsItsVersion(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sluice")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v9.8.7-test", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(program, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "sluice v9.8.7-test ") {
		t.Errorf("--version: %s, %v", out, err)
	}
	if runtime.GOOS != "linux" {
		return
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a segment %v: it is linked dynamically", p.Type)
		}
	}
}

package demo

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program that notes its process id and then waits to be ended plays the coordinator.
const playedCoordinator = `#!/bin/sh
echo $$ >> "$4/pids"
exec sleep 600
`

// pids returns the ids of the coordinators that were started, once there are n.
func pids(t *testing.T, dir string, n int) []int {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(dir, "pids")) // not there before the first start
		lines := strings.Fields(string(b))
		if len(lines) >= n {
			ids := make([]int, len(lines))
			for i, l := range lines {
				ids[i], _ = strconv.Atoi(l) // 0 fails the test below
			}
			return ids
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d coordinators were started, want %d", len(lines), n)
		}
	}
}

func TestCoordinatorIsStartedAgainAndStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "played")
	if err := os.WriteFile(program, []byte(playedCoordinator), 0o700); err != nil {
		t.Fatal(err)
	}
	c := &coordinator{program: program, address: "127.0.0.1:1", data: dir, errors: io.Discard,
		log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.supervise(ctx)
	}()
	if err := syscall.Kill(pids(t, dir, 1)[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := pids(t, dir, 2)[1]
	cancel()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the supervisor does not end")
	}
	if err := syscall.Kill(second, 0); err == nil {
		t.Errorf("the coordinator %d outlived its supervisor", second)
	}
}

func TestFindCoordinatorSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := FindCoordinator(""); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error %v, want one that names make build", err)
	}
	if _, err := FindCoordinator(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("no error for a program that is not there")
	}
}

package child_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/child"
)

// The test binary plays the parent that is killed: it starts a sleeper, prints the sleeper's id and
// waits to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("CHILD_TEST_PARENT") == "1" {
		p, err := child.Start(exec.Command("sleep", "600"))
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
		<-p.Done()
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func TestStopAsksFirst(t *testing.T) {
	t.Parallel()
	p := startShell(t, `trap 'kill $!; exit 7' TERM; sleep 600 & echo ready; wait`)
	var exit *exec.ExitError
	if err := p.Stop(10 * time.Second); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Fatalf("ended with %v, want exit code 7 from its handler of SIGTERM", err)
	}
}

// startShell runs a script and returns when it has printed ready.
func startShell(t *testing.T, script string) *child.Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return p
}

func TestStopKillsAChildThatIgnoresTheSignal(t *testing.T) {
	t.Parallel()
	p := startShell(t, `trap '' TERM; echo ready; exec sleep 600`)
	err := p.Stop(20 * time.Millisecond)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v, want killed", err)
	}
}

func TestStartOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := child.Start(exec.Command("/nowhere/nothing")); err == nil {
		t.Fatal("no error for a program that is not there")
	}
}

func TestEndsWithAKilledParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CHILD_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent said nothing: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("the child outlived its parent")
		}
	}
}

// alive says whether a process runs; one that has ended and that nobody has waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestAwait(t *testing.T) {
	t.Parallel()
	p := startShell(t, `echo ready; exec sleep 600`)
	looked := 0
	if err := p.Await(t.Context(), func() bool { looked++; return looked == 3 }); err != nil || looked != 3 {
		t.Errorf("%v after %d looks, want ready at the third", err, looked)
	}
	never := func() bool { return false }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Await(ctx, never); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	p.Kill()
	var exit *exec.ExitError
	if err := p.Await(t.Context(), never); !errors.As(err, &exit) {
		t.Errorf("a child that was killed: %v, want how it ended", err)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	var all child.Output
	beginning := child.Output{BytesMax: 5}
	for _, o := range []*child.Output{&all, &beginning} {
		for _, text := range []string{"one", "two", "three"} {
			if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
		}
	}
	if all.String() != "onetwothree" || beginning.String() != "onetw" {
		t.Errorf("kept %q and %q", all.String(), beginning.String())
	}
}

package embeddedstore

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

const childFolder = "SLUICE_TEST_EMBEDDED_CHILD"

// TestMain is also the child of TestKill: the test binary runs itself, works on the folder and is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		work(dir)
	}
	os.Exit(m.Run())
}

// TestNothingIsLeft: an opening and closing leaves no goroutine. (A failed store does, as its doc says.)
func TestNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := mustOpen(t, t.TempDir(), Options{})
	claim(t, s, request("a", 1))
	mustClose(t, s)
	if _, err := Open(os.Args[0], Options{Logger: quiet}); err == nil { // not a folder
		t.Error("opened the test binary")
	}
}

// work claims and ends keys until the process is killed, and says each acknowledged step on the standard output.
func work(dir string) {
	s, err := Open(dir, Options{Logger: quiet})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var out sync.Mutex
	say := func(what, id string) {
		out.Lock()
		defer out.Unlock()
		_, _ = os.Stdout.WriteString(what + " " + id + "\n") // one write, unbuffered
	}
	ctx := context.Background()
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				if _, claimed, err := s.Claim(ctx, request(id, 1)); err != nil || !claimed {
					say("error", fmt.Sprint(claimed, err))
					return
				}
				say("claimed", id)
				ops := []idempotency.Op{idempotency.Finish, idempotency.Free, idempotency.Doubt, idempotency.Hand}
				words := []string{"finished", "freed", "doubted", "handed"}
				n := i % 4
				say("starting-"+words[n], id)
				a := []byte(id)
				if err := s.Change(ctx, id, 1, idempotency.Change{Op: ops[n], Answer: a}); err != nil {
					say("error", err.Error())
					return
				}
				say(words[n], id)
			}
		}()
	}
	select {}
}

// TestKill kills a working process at random moments: what it acknowledged is there afterwards, and nothing else is in flight.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	last := map[string]string{}
	for range 4 {
		killChild(t, dir, last)
		checkAcknowledged(t, dir, last)
	}
	if len(last) < 40 {
		t.Errorf("only %d keys in all: the test looked at too little", len(last))
	}
}

func killChild(t *testing.T, dir string, last map[string]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	defer stop.Stop()
	lines, killAt := 0, 50+rand.IntN(400)
	in := bufio.NewScanner(out)
	for in.Scan() {
		what, id, _ := strings.Cut(in.Text(), " ")
		if what == "error" {
			t.Errorf("child: %s", id)
		}
		last[id] = what
		if lines++; lines == killAt {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait()
	if lines < killAt {
		t.Fatalf("the child ended by itself after %d steps", lines)
	}
}

func checkAcknowledged(t *testing.T, dir string, last map[string]string) {
	t.Helper()
	s := mustOpen(t, dir, Options{})
	defer mustClose(t, s)
	ctx := within(t, time.Minute)
	for id, said := range last {
		rec, ok, err := s.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		state := idempotency.State(0)
		if ok {
			state = rec.State
		}
		allowed := map[string][]idempotency.State{ // 0 is no record
			"claimed": {idempotency.Unknown}, "finished": {idempotency.Answered}, "freed": {0}, "doubted": {idempotency.Unknown}, "handed": {idempotency.Handed},
			"starting-finished": {idempotency.Unknown, idempotency.Answered}, "starting-freed": {idempotency.Unknown, 0},
			"starting-doubted": {idempotency.Unknown}, "starting-handed": {idempotency.Unknown, idempotency.Handed},
		}[said]
		if !contains(allowed, state) {
			t.Errorf("%s was %s, and reads as %v (0 is gone); want one of %v", id, said, uint8(state), allowed)
		}
		if state == idempotency.Answered && string(rec.Answer) != id {
			t.Errorf("%s has the answer %q", id, rec.Answer.Body)
		}
	}
	inFlight, err := s.List(ctx, idempotency.Query{State: idempotency.InFlight}, 10)
	if err != nil || len(inFlight) != 0 {
		t.Errorf("in flight after opening: %+v, %v", inFlight, err)
	}
}

func contains(list []idempotency.State, s idempotency.State) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

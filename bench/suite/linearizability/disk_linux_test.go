package linearizability

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

const (
	diskSize = "48m"
	// insideVariable says that the test runs in a mount namespace of its own.
	insideVariable = "SLUICE_HISTORIES_INSIDE"
)

// The disk of the embedded store fills up under load: requests are refused and not executed without
// protection, the gateway says that it is not ready and lives on. When there is room again it
// recovers by itself, and everything acknowledged is there, also after a restart or a crash while
// it was full.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	if disk == "" {
		return // it ran elsewhere
	}
	tr := startTrial(t, 1, "hold", "{embedded: {dir: "+filepath.Join(disk, "data")+"}}")
	g := tr.gateways[0]
	tr.rounds(4, func(round int) {
		tr.served(0, 50, 200)
		over := tr.history.Trouble()
		ballast := fill(t, filepath.Join(disk, "ballast"))
		tr.refused(0, 20)
		harness.Until(t, awaitLimit, "the gateway says that it is not ready", func() bool {
			return status(t, g.AdminURL+"/readyz") == http.StatusServiceUnavailable
		})
		executed := tr.history.executed()
		tr.refused(0, 20)
		if n := tr.history.executed(); n != executed {
			t.Errorf("%d requests were executed without protection", n-executed)
		}
		select {
		case <-g.Ended():
			t.Fatal("the gateway ended")
		default:
		}
		crash := round%2 == 1 // a crash on top of it: the end of the log is as the full disk left it
		if crash {
			g.Kill()
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if crash {
			g.Restart()
		}
		tr.recovered()
		over()
		tr.served(0, 50, 200)
	})
	r := tr.end(func() {
		g.Stop()
		g.Restart()
	})
	t.Logf("%d refusals while the disk was full", r.Responses["503 store-unavailable"])
}

// fill writes a file until the disk has no room, and then leaves a little: a store that is appended
// to fills that by itself.
func fill(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, block := int64(0), make([]byte, 16<<10)
	for err == nil {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	if err := f.Truncate(max(0, size-int64(len(block)))); err != nil {
		t.Fatal(err)
	}
	return path
}

// smallDisk mounts a small disk in memory. A process that may not mount runs the test once more in
// a user and mount namespace of its own, where it may; then smallDisk returns "". Where neither is
// possible the test fails: it is not skipped.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+diskSize)
	if err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmounting %s: %v", dir, err)
			}
		})
		return dir
	}
	if os.Getenv(insideVariable) != "" || !errors.Is(err, syscall.EPERM) {
		t.Fatalf("a tmpfs of %s is needed: mount: %v", diskSize, err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", os.Args[0],
		"-test.run=^TestDiskIsFull$", "-test.v", "-linearizability.for="+longer.String(),
		fmt.Sprint("-linearizability.seed=", *fromSeed))
	cmd.Env = append(os.Environ(), insideVariable+"=1", "SLUICE_BIN="+build.Sluice(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("a tmpfs of %s is needed, by root or in a namespace of its own (unshare): %v\n%s", diskSize, err, out)
	}
	t.Logf("in a mount namespace of its own:\n%s", out)
	return ""
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A user of an earlier version has transactions in dtm.bolt; some are under way.
func TestBoltIsTakenOver(t *testing.T) {
	t.Parallel()
	s, dir := newService(t), t.TempDir()
	p := start(t, "--listen", "127.0.0.1:0", "--data", dir, "--store", "boltdb")
	p.submit(t, "ended0000001", 1, s.URL+"/ok")
	p.submit(t, "running00001", 1, s.URL+"/first", s.URL+"/hang", s.URL+"/last")
	p.submit(t, "running0000", 1, s.URL+"/other", s.URL+"/hang") // with which the one before begins
	if _, err := http.Get("http://" + p.addr + "/api/dtmsvr/subscribe?topic=paid&url=" + s.URL + "/topic"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second branches run", func() bool { return s.hangs.Load() == 2 })
	eventually(t, "the first has ended",
		func() bool { return p.status(t, "ended0000001") == "succeed" })
	p.cmd.Process.Kill()
	p.exit(t)
	close(s.hold)

	p = start(t, "--listen", "127.0.0.1:0", "--data", dir)
	for _, gid := range []string{"ended0000001", "running00001", "running0000"} {
		eventually(t, gid+" succeeds", func() bool { return p.status(t, gid) == "succeed" })
	}
	if s.count("/first/do") != 1 || s.count("/other/do") != 1 || s.count("/last/do") != 1 || s.count("/ok/do") != 1 {
		t.Errorf("calls: first %d, other %d, last %d, ok %d; want 1 each", s.count("/first/do"), s.count("/other/do"),
			s.count("/last/do"), s.count("/ok/do"))
	}
	if got := p.get(t, "/api/dtmsvr/queryKV?cat=topics&key=paid"); !strings.Contains(got, s.URL+"/topic") {
		t.Errorf("the topic is %s", got)
	}
	if !strings.Contains(p.stderr.String(), "were taken over") {
		t.Errorf("nothing was said of it: %s", p.stderr.String())
	}
	p.cmd.Process.Kill()
	p.exit(t)
	if _, err := os.Stat(filepath.Join(dir, "dtm.bolt")); !os.IsNotExist(err) {
		t.Errorf("dtm.bolt is still there: %v", err)
	}
	// Back to bolt is no way to lose the others.
	code, stderr := fails(t, "--listen", "127.0.0.1:0", "--data", dir, "--store", "boltdb")
	if code != 1 || !strings.Contains(stderr, "has the transactions of --store embedded") {
		t.Errorf("bolt beside the embedded store: exit %d, %q", code, stderr)
	}
}

func TestBoltInUseOrDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, "--listen", "127.0.0.1:0", "--data", dir, "--store", "boltdb")
	code, stderr := fails(t, "--listen", "127.0.0.1:0", "--data", dir)
	if code != 1 || !strings.Contains(stderr, "data folder "+dir+" is in use by another process") {
		t.Errorf("while bolt runs: exit %d, %q", code, stderr)
	}
	dir = t.TempDir()
	noBolt := []byte(strings.Repeat("no bolt file", 2000))
	if err := os.WriteFile(filepath.Join(dir, "dtm.bolt"), noBolt, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stderr = fails(t, "--listen", "127.0.0.1:0", "--data", dir)
	if code != 1 || !strings.Contains(stderr, "taking over "+filepath.Join(dir, "dtm.bolt")) {
		t.Errorf("with a damaged file: exit %d, %q", code, stderr)
	}
}

func TestNoPermission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "transactions"), nil, 0o600); err != nil { // a file: root may all else
		t.Fatal(err)
	}
	code, stderr := fails(t, "--listen", "127.0.0.1:0", "--data", dir)
	if code != 1 || !strings.Contains(stderr, "transactions") || strings.Contains(stderr, "goroutine ") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func (p *process) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + p.addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// trySubmit returns the status of a submit of one step, 0 when there was no response.
func (p *process) trySubmit(gid, url string) int {
	body := fmt.Sprintf(`{"gid":%q,"trans_type":"saga","wait_result":true,"retry_interval":1,`+
		`"steps":[{"action":%q,"compensate":%q}],"payloads":["{}"]}`, gid, url+"/do", url+"/undo")
	resp, err := http.Post("http://"+p.addr+"/api/dtmsvr/submit", "application/json", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// On a full disk a saga is refused, and none of its branches is called; then it goes on without a restart. The limit
// of the size of a file stands for the disk.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	if code := p.trySubmit("before000001", s.URL+"/before"); code != 200 {
		t.Fatalf("before: %d", code)
	}
	limit(t, p, 64)
	if code := p.trySubmit("full00000001", s.URL+"/full"); code != 500 {
		t.Errorf("on a full disk: %d, want 500", code)
	}
	if got := p.status(t, "full00000001"); got != "none" || s.count("/full/do") != 0 {
		t.Errorf("the refused one is %s, its branch was called %d times", got, s.count("/full/do"))
	}
	if !strings.Contains(p.stderr.String(), "transactions") || !strings.Contains(p.stderr.String(), "file too large") {
		t.Errorf("the log does not say why: %s", p.stderr.String())
	}
	limit(t, p, unix.RLIM_INFINITY)
	eventually(t, "it takes sagas again",
		func() bool { return p.trySubmit("after0000001", s.URL+"/after") == 200 })
	if s.count("/after/do") != 1 {
		t.Errorf("the branch was called %d times", s.count("/after/do"))
	}
}

func limit(t *testing.T, p *process, bytes uint64) {
	t.Helper()
	l := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
		t.Fatal(err)
	}
}

// Killed under load again and again, it loses no saga that was acknowledged and calls no branch of one again.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	s, dir := newService(t), t.TempDir()
	var mu sync.Mutex
	var acknowledged []string
	for round := range 3 {
		p := start(t, "--listen", "127.0.0.1:0", "--data", dir)
		var callers sync.WaitGroup
		for c := range 8 {
			callers.Go(func() {
				for n := 0; ; n++ {
					gid := fmt.Sprintf("load%02d%02d%06d", round, c, n)
					code := p.trySubmit(gid, s.URL+"/"+gid)
					if code != 200 {
						return
					}
					mu.Lock()
					acknowledged = append(acknowledged, gid)
					mu.Unlock()
				}
			})
		}
		want := 100 * (round + 1)
		eventually(t, "some are done", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged) >= want
		})
		p.cmd.Process.Kill()
		p.exit(t)
		callers.Wait()
	}
	p := start(t, "--listen", "127.0.0.1:0", "--data", dir)
	for _, gid := range acknowledged {
		if got := p.status(t, gid); got != "succeed" {
			t.Errorf("%s was acknowledged and is %s", gid, got)
		}
		if n := s.count("/" + gid + "/do"); n != 1 {
			t.Errorf("%s was called %d times", gid, n)
		}
	}
}

// A saga that succeeds logs nothing, one that is refused a line; a branch that fails again and again a line a minute,
// without the secret of its address.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir())
	if code := p.trySubmit("good00000001", s.URL+"/ok"); code != 200 {
		t.Fatalf("good: %d", code)
	}
	if got := p.stderr.String(); got != "" {
		t.Errorf("a good saga logged %q", got)
	}
	if code := p.trySubmit("bad000000001", s.URL+"/refuse"); code != 409 {
		t.Fatalf("refused: %d", code)
	}
	eventually(t, "it has failed", func() bool { return p.status(t, "bad000000001") == "failed" })
	got := p.stderr.String()
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, "gid=bad000000001") ||
		!strings.Contains(got, "level=WARN") {
		t.Errorf("a refused saga logged %q, want one line", got)
	}
	b, _ := json.Marshal(map[string]any{
		"gid": "failing00001", "trans_type": "saga", "retry_interval": 1, "payloads": []string{"{}"},
		"steps": []map[string]string{{
			"action": s.URL + "/moved/do?sig=SECRET", "compensate": s.URL + "/moved/undo?sig=SECRET",
		}},
	})
	resp, err := http.Post("http://"+p.addr+"/api/dtmsvr/submit", "application/json", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "it came again twice", func() bool { return s.count("/moved/do") >= 3 })
	got = strings.TrimPrefix(p.stderr.String(), got)
	if strings.Contains(got, "SECRET") || strings.Contains(got, "goroutine") || strings.Count(got, "\n") != 1 ||
		!strings.Contains(got, "url="+s.URL+"/moved/do") {
		t.Errorf("a failing branch logged %q", got)
	}
}

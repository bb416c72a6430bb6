package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// versions are the ways in which clients reach the gateway.
var versions = []string{"http/1.1", "h2c", "h2"}

// base is the gateway's URL for a version of HTTP.
func (g *gateway) base(version string) string {
	if version == "h2" {
		return "https://" + g.https
	}
	return "http://" + g.http
}

const (
	hugeBytes    = 1 << 30
	growthMaxKiB = 30 << 10 // of the gateway's memory while a huge body passes
)

// zeros is an endless body. It counts what was taken of it.
type zeros struct{ taken atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	z.taken.Add(int64(len(p)))
	return len(p), nil
}

// hugeService answers GET with as many bytes as the query says and POST with the number of bytes
// that it got.
func hugeService(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
		return
	}
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Query().Get("length") != "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	// the client sees a body cut short
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(new(zeros), n), make([]byte, 256<<10))
}

func TestHugeBodiesPassInFlatMemory(t *testing.T) {
	// Not parallel: the gigabytes would slow down everything else.
	g := startGateway(t, oneService(startService(t, hugeService)))
	for _, c := range []struct {
		version string
		bytes   int64
		sized   bool // with a Content-Length; else chunked
	}{
		{"http/1.1", hugeBytes, true},
		{"http/1.1", hugeBytes / 4, false},
		{"h2c", hugeBytes / 4, true},
		{"h2", hugeBytes / 4, false},
	} {
		t.Run(fmt.Sprintf("%s %d MiB sized %t", c.version, c.bytes>>20, c.sized), func(t *testing.T) {
			client := &http.Client{Transport: transport(t, c.version)}
			url := func(bytes int64) string {
				return fmt.Sprintf("%s/?bytes=%d%s", g.base(c.version), bytes,
					map[bool]string{true: "&length=1"}[c.sized])
			}
			const warm = 8 << 20
			download(t, client, url(warm), warm)
			upload(t, client, url(warm), warm, c.sized)

			before := peakMemory(t, g.pid)
			download(t, client, url(c.bytes), c.bytes)
			wantFlat(t, g.pid, before, "download")
			before = peakMemory(t, g.pid)
			upload(t, client, url(c.bytes), c.bytes, c.sized)
			wantFlat(t, g.pid, before, "upload")
		})
	}
}

func wantFlat(t *testing.T, pid, before int, during string) {
	t.Helper()
	after := readPeakMemory(t, pid)
	t.Logf("%s: from %d to at most %d KiB", during, before, after)
	if after > before+growthMaxKiB {
		t.Errorf("during the %s the gateway grew from %d to %d KiB, want at most %d more", during, before, after,
			growthMaxKiB)
	}
}

func download(t *testing.T, client *http.Client, url string, want int64) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	if err != nil || got != want || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET gave %d, %d bytes, error %v; want 200 and %d", resp.StatusCode, got, err, want)
	}
}

func upload(t *testing.T, client *http.Client, url string, bytes int64, sized bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.LimitReader(new(zeros), bytes))
	if err != nil {
		t.Fatal(err)
	}
	if sized {
		req.ContentLength = bytes
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := fmt.Sprint(bytes, nil); err != nil || string(body) != want {
		t.Fatalf("POST gave %d %q, error %v; want %q", resp.StatusCode, body, err, want)
	}
}

// peakMemory sets the peak of a process' resident memory back to what it has now, and returns it in
// KiB (proc(5), clear_refs).
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return readPeakMemory(t, pid)
}

func readPeakMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no VmHWM in\n%s", status)
	return 0
}

// Each event reaches the client before the service sends the next one.
func TestServerSentEventsPassAtOnce(t *testing.T) {
	t.Parallel()
	arrived := make(map[string]chan struct{})
	for _, v := range append([]string{"direct"}, versions...) {
		arrived[v] = make(chan struct{})
	}
	const events = 20
	service := startService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range events {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			select {
			case <-arrived[r.URL.Query().Get("way")]:
			case <-r.Context().Done():
				return
			}
		}
	})
	g := startGateway(t, oneService(service))
	for way := range arrived {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			version, base := way, g.base(way)
			if way == "direct" {
				version, base = "http/1.1", "http://"+service
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			resp, err := get(ctx, transport(t, version), base+"/?way="+way)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			for i := range events {
				event, err := lines.ReadString('\n')
				if want := fmt.Sprintf("data: %d\n", i); err != nil || event != want {
					t.Fatalf("event %d is %q, error %v", i, event, err)
				}
				if empty, err := lines.ReadString('\n'); err != nil || empty != "\n" {
					t.Fatalf("after event %d came %q, error %v", i, empty, err)
				}
				arrived[way] <- struct{}{}
			}
			if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
				t.Errorf("after the last event came %q, error %v", rest, err)
			}
		})
	}
}

func get(ctx context.Context, tr http.RoundTripper, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return tr.RoundTrip(req)
}

const (
	pressedBytes = 512 << 20
	// Two connections hold what is under way, and the kernel may give each of them some MiB on both
	// sides.
	heldBytesMax = 64 << 20
)

// A client that does not read stops the service; when it reads again, everything comes.
func TestBackPressureOnTheService(t *testing.T) {
	t.Parallel()
	var sent zeros
	service := startService(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, io.LimitReader(&sent, pressedBytes)) // the client sees a body cut short
	})
	g := startGateway(t, oneService(service))
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { // one after the other: they share the counter
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			sent.taken.Store(0)
			resp, err := get(ctx, transport(t, version), g.base(version)+"/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if held := settled(t, &sent.taken); held > heldBytesMax {
				t.Errorf("the service sent %d bytes to a client that reads none, want at most %d", held, heldBytesMax)
			}
			if got, err := io.Copy(io.Discard, resp.Body); err != nil || got != pressedBytes {
				t.Errorf("then %d bytes came, error %v; want %d", got, err, pressedBytes)
			}
		})
	}
}

// A service that does not read stops the client; when it reads again, everything comes.
func TestBackPressureOnTheClient(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	service := startService(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	g := startGateway(t, oneService(service))
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			sent := new(zeros)
			result := make(chan error, 1)
			tr := transport(t, version)
			go func() { result <- post(ctx, tr, g.base(version)+"/", sent) }()
			select {
			case <-arrived:
			case err := <-result:
				t.Fatal("before the service saw it:", err)
			}
			if held := settled(t, &sent.taken); held > heldBytesMax {
				t.Errorf("the client sent %d bytes to a service that reads none, want at most %d", held, heldBytesMax)
			}
			release <- struct{}{}
			if err := <-result; err != nil {
				t.Error(err)
			}
		})
	}
}

// post sends pressedBytes and wants the service to have got them all.
func post(ctx context.Context, tr http.RoundTripper, url string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.LimitReader(body, pressedBytes))
	if err != nil {
		return err
	}
	req.ContentLength = pressedBytes
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if want := fmt.Sprint(pressedBytes, nil); err == nil && string(text) != want {
		err = errors.New("the service answers " + string(text) + ", want " + want)
	}
	return err
}

// settled returns the counter once it has stood still above zero for many looks in a row.
func settled(t *testing.T, counter *atomic.Int64) int64 {
	t.Helper()
	const looks, apart = 25, 20 * time.Millisecond
	last, still := counter.Load(), 0
	for deadline := time.Now().Add(limit); still < looks; time.Sleep(apart) {
		if time.Now().After(deadline) {
			t.Fatalf("still moving after %v: %d bytes", limit, last)
		}
		now := counter.Load()
		if now == last && now > 0 {
			still++
		} else {
			last, still = now, 0
		}
	}
	t.Logf("%d bytes are under way", last)
	return last
}

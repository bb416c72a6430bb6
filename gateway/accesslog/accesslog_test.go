package accesslog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

var quiet = slog.New(slog.DiscardHandler)

func sample() *Entry {
	return &Entry{
		Time: time.Date(2026, 11, 27, 13, 35, 54, 123456789, time.UTC), RequestID: "0123456789abcdef0123456789abcdef",
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Method: "POST", Host: "shop.example", Path: "/v1/orders/7",
		Protocol: "2", Peer: netip.MustParseAddr("10.0.0.1"), Client: netip.MustParseAddr("2001:db8::7"),
		Principal: "alice",
		Route:     "create-order", Service: "order", Endpoint: "127.0.0.1:7001", Status: 201, Record: "k7", Attempt: 2,
		Replayed: true, In: 17, Out: 1234, Total: 12345678 * time.Nanosecond, ServiceTime: 9 * time.Millisecond,
		StoreTime: 1500 * time.Microsecond, QueueTime: 10 * time.Nanosecond,
	}
}

func TestForms(t *testing.T) {
	const asJSON = `{"time":"2026-11-27T13:35:54.123Z","request_id":"0123456789abcdef0123456789abcdef",` +
		`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","peer":"10.0.0.1","client":"2001:db8::7",` +
		`"principal":"2bd806c97f0e00af","method":"POST","host":"shop.example","path":"/v1/orders/7",` +
		`"protocol":"HTTP/2","route":"create-order","service":"order","endpoint":"127.0.0.1:7001","status":201,` +
		`"record":"k7","attempt":2,"replayed":true,"bytes_in":17,"bytes_out":1234,"total_ms":12.345,` +
		`"service_ms":9.000,"store_ms":1.500}` + "\n"
	if got := string(appendEntry(nil, sample(), true, true)); got != asJSON {
		t.Errorf("got  %swant %s", got, asJSON)
	}
	e := &Entry{Time: sample().Time, Method: "GET", Path: "/a b=\"c\"\n", Status: 404, Reason: "no-route", Out: -1}
	const asText = `time=2026-11-27T13:35:54.123Z method=GET path="/a b=\"c\"\u000a" status=404 reason=no-route ` +
		`bytes_in=0 total_ms=0.000` + "\n"
	if got := string(appendEntry(nil, e, false, true)); got != asText {
		t.Errorf("got  %swant %s", got, asText)
	}
	if got := string(appendEntry(nil, sample(), false, false)); !strings.Contains(got, " principal=alice ") {
		t.Errorf("the principal is not plain in %s", got)
	}
}

var hostile = []string{
	"", "a\nb", "\x00\x1b[31m\x7f", "\"},{\"status\":200", `\`, "\xff\xfe", "caf\xc3",
	"\u0085\u009b\u2028\u2029", "…é世",
	strings.Repeat("世", 20_000), strings.Repeat("\x01", 32<<10), strings.Repeat("a", 255) + "é", "\ufffd",
}

// check: a line is one line whatever is in it, and says it.
func check(t *testing.T, text string) {
	t.Helper()
	e := &Entry{Method: text, Host: text, Path: text, Principal: text, Route: text, Endpoint: text, Reason: text}
	b := appendEntry(nil, e, true, false)
	var got struct{ Path, Host string }
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%q: %v in %s", text, err, b)
	}
	want := strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= textBytesMax && utf8.ValidString(text) && got.Host != text {
		t.Errorf("%q is read as %q", text, got.Host)
	}
	if cut := strings.TrimSuffix(got.Path, "…"); utf8.ValidString(text) && !strings.HasPrefix(want, cut) {
		t.Errorf("%q is read as %q", text, got.Path)
	}
	for _, b := range [][]byte{b, appendEntry(nil, e, false, false)} {
		if len(b) > 32<<10 {
			t.Errorf("%q makes a line of %d bytes", text[:20], len(b))
		}
		if !utf8.Valid(b) || bytes.IndexByte(b, '\n') != len(b)-1 {
			t.Errorf("%q breaks the line %q", text, b)
		}
		for _, r := range string(b[:len(b)-1]) {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
				t.Errorf("%q leaves %q in the line", text, r)
			}
		}
	}
}

func TestHostileTexts(t *testing.T) {
	for _, text := range hostile {
		check(t, text)
	}
}

func FuzzTexts(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(check)
}

func TestSample(t *testing.T) {
	l := New(Settings{Sample: 0}, nil)
	if l.Takes(200, "") || !l.Takes(429, "rate-limited") || !l.Takes(502, "") || !l.Takes(500, "") || l.Takes(404, "") {
		t.Error("with a sample of 0 only refusals and statuses from 500 on are written")
	}
	l, n := New(Settings{Sample: .25}, nil), 0
	for range 10_000 {
		if l.Takes(200, "") {
			n++
		}
	}
	if n < 2200 || n > 2800 {
		t.Errorf("of 10,000 requests %d are written, want about a quarter", n)
	}
}

// TestRotation: while many write, the file is renamed and opened again over and over. No line is lost, torn or there
// twice.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	var c Counts
	s, err := Open(path, &c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	const writers, each, rotations = 4, 3000, 20
	var all sync.WaitGroup
	l := New(Settings{JSON: true, Sample: 1}, s)
	for w := range writers {
		all.Go(func() {
			for i := range each {
				e := &Entry{Record: fmt.Sprint(w, "-", i), Path: strings.Repeat("x", i%300)}
				for !l.Write(e) {
					t.Error("the sink is closed")
					return
				}
				for int64(i*writers)-2000 > c.Written.Load() { // more than that would find no room
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for i := range rotations {
		if err := os.Rename(path, fmt.Sprintf("%s.%02d", path, i)); err != nil {
			t.Error(err)
		}
		if err := s.Reopen(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	s.Close()
	if l.Write(sample()) {
		t.Error("a closed sink takes a line")
	}
	seen := map[string]bool{}
	files, _ := filepath.Glob(path + "*")
	for _, f := range files {
		for _, line := range linesOf(t, f) {
			var e struct{ Record string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || seen[e.Record] {
				t.Fatalf("%s has the line %q (%v), before: %v", f, line, err, seen[e.Record])
			}
			seen[e.Record] = true
		}
	}
	if len(seen) != writers*each || len(files) != rotations+1 || c.Written.Load() != writers*each ||
		c.Dropped.Load() != 0 {
		t.Errorf("%d of %d lines in %d files; %d counted, %d dropped", len(seen), writers*each, len(files),
			c.Written.Load(), c.Dropped.Load())
	}
}

func linesOf(t *testing.T, file string) (list []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		list = append(list, sc.Text())
	}
	return list
}

// TestReopenFails: the old file goes on, and the log says so.
func TestReopenFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	var c Counts
	s, err := Open(filepath.Join(dir, "a"), &c, slog.New(slog.NewTextHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	l := New(Settings{Sample: 1}, s)
	l.Write(sample())
	if err := s.Reopen(); err == nil {
		t.Error("a file in a folder that is gone was opened")
	}
	l.Write(sample())
	s.Close()
	if n := len(linesOf(t, filepath.Join(moved, "a"))); n != 2 {
		t.Errorf("%d lines in the old file, want 2", n)
	}
	if !strings.Contains(logs.String(), "cannot be opened again, the old one is written to") {
		t.Error(logs.String())
	}
}

// TestUnopenable: what cannot be opened is an error with its path, also a pipe that nobody reads.
func TestUnopenable(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none", "a")} {
		if _, err := Open(path, new(Counts), quiet); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// disk fails when it is full, in the middle of a line.
type disk struct {
	mu    sync.Mutex
	room  int
	b     bytes.Buffer
	calls int
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	n := min(d.room, len(p))
	d.room -= n
	d.b.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func (d *disk) grow(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += n
}

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.String()
}

// TestFullDisk: lines are dropped and counted, nobody waits, and when there is room again no line is torn.
func TestFullDisk(t *testing.T) {
	line := len(appendEntry(nil, sample(), true, true))
	d := &disk{room: 2*line + line/2}
	var logs bytes.Buffer
	var c Counts
	s := start("disk", d, &c, slog.New(slog.NewTextHandler(&logs, nil)))
	l := New(Settings{JSON: true, Sample: 1}, s)
	total := int64(0)
	write := func(n int) {
		for range n {
			l.Write(sample())
			total++
		}
	}
	settled := func() bool { return c.Written.Load()+c.Dropped.Load() >= total-1 } // one line is torn
	write(5)
	waitFor(t, settled)
	write(5)
	waitFor(t, settled)
	d.grow(1 << 20)
	write(3)
	waitFor(t, func() bool { return c.Written.Load()+c.Dropped.Load() == total })
	s.Close()
	written := int64(0)
	for l := range strings.Lines(d.String()) {
		var any map[string]any
		if err := json.Unmarshal([]byte(l), &any); err != nil {
			t.Errorf("torn: %q", l)
		}
		written++
	}
	if written != c.Written.Load() || written < 6 {
		t.Errorf("%d lines are there, %d counted", written, c.Written.Load())
	}
	if got := logs.String(); strings.Count(got, "cannot be written") != 1 || !strings.Contains(got, "written again") {
		t.Error(got)
	}
}

// TestStuckReader: a pipe that nobody reads costs lines and no time, and the memory is bounded.
func TestStuckReader(t *testing.T) {
	r, w := io.Pipe()
	var c Counts
	s := start("pipe", w, &c, quiet)
	l := New(Settings{JSON: true, Sample: 1}, s)
	line := len(appendEntry(nil, sample(), true, true))
	n := 4 * bufferBytes / line
	for range n {
		l.Write(sample())
	}
	if c.Dropped.Load() < int64(n)/4 || cap(s.filling) != bufferBytes {
		t.Errorf("%d of %d lines are dropped, and the buffer has %d bytes", c.Dropped.Load(), n, cap(s.filling))
	}
	go io.Copy(io.Discard, r)
	s.Close()
	if got := c.Dropped.Load() + c.Written.Load(); got != int64(n) {
		t.Errorf("%d lines are counted, want %d", got, n)
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come about")
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, json := range map[string]bool{"json": true, "text": false} {
		b.Run(name, func(b *testing.B) {
			l := New(Settings{JSON: json, Sample: 1}, start("null", io.Discard, new(Counts), quiet))
			defer l.Sink().Close()
			e := sample()
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				l.Write(e)
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") // also on a busy machine
		})
	}
}

func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

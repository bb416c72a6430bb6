package idempotency

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

func TestMain(m *testing.M) { build.Main(m) }

// TestRun is a real run, as short as it can be: it shows that every figure is there and that
// nothing fails, not what they are.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	report, err := Run(t.Context(), Options{
		Program: build.Sluice(t), Dir: dir, Duration: 50 * time.Millisecond, Rounds: 1, Connections: 8, Rate: 200,
		Records: 100, Quick: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines := report.remarks(); len(lines) > 0 {
		t.Error(strings.Join(lines, "\n"))
	}
	for _, store := range []string{memoryStore, embeddedStore, redisStore} {
		for _, load := range loads {
			f := report.figure(store, load)
			if f == nil || f.CPUMicros <= 0 || f.PerSecond <= 0 || f.ToPlain == nil || f.Added == nil ||
				f.Mallocs == nil {
				t.Errorf("%s, %s: %+v", store, load, f)
			}
		}
	}
	for _, s := range report.Stores {
		if s.Latency == nil || s.Latency.P50 <= 0 {
			t.Errorf("%s: latency %+v", s.Name, s.Latency)
		}
	}
	if l := report.Live; l == nil || l.Records < 100 || l.After.Proportional <= 0 || l.After.Heap <= 0 ||
		l.DiskBytes <= 0 {
		t.Errorf("live records: %+v", l)
	}
	if report.Fsyncs == nil || report.PerFsync == nil || len(report.Marks) > 0 {
		t.Errorf("fsyncs %v, %v keyed POSTs each, marks %v; want figures and no verdicts", report.Fsyncs,
			report.PerFsync, report.Marks)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
	if err := report.WriteTable(io.Discard); err != nil {
		t.Error(err)
	}
	if err := report.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRunInVain(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx       context.Context
		only, dir string
		want      string
		is        error
	}{
		{t.Context(), "^none$", "", "--only", nil},
		{t.Context(), "^memory", "", "/nowhere", nil},
		{t.Context(), "^memory", "/no/such/folder", "--dir", os.ErrNotExist},
		{ended, "^memory", "", "", context.Canceled},
	} {
		o := Options{Program: "/nowhere", Dir: c.dir, Duration: time.Second, Rounds: 1, Rate: 1,
			Only: regexp.MustCompile(c.only)}
		_, err := Run(c.ctx, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("--only %s, --dir %s: %v, want an error that names %s", c.only, c.dir, err, c.want)
		}
	}
}

func TestMountKind(t *testing.T) {
	t.Parallel()
	const mounts = "rootfs / rootfs rw 0 0\n/dev/a / ext4 rw 0 0\nshm /tmp tmpfs rw 0 0\n" +
		"/dev/b /tmp/disk xfs rw 0 0\nodd\n"
	for path, want := range map[string]string{
		"/": "ext4", "/tmp": "tmpfs", "/tmp/x": "tmpfs", "/tmpx": "ext4", "/tmp/disk/y/z": "xfs",
		"/tmp/diskless": "tmpfs",
	} {
		if got := mountKind(mounts, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

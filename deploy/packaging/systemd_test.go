package packaging

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var units = []string{
	"deploy/systemd/sluice.service", "deploy/systemd/sluice.socket", "deploy/coordinator/sluice-dtm.service",
}

// exposureMax is what `systemd-analyze security` may count, in tenths; a service without a sandbox has 96.
const exposureMax = 20

func TestUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The programs are not installed here, and verify looks for them.
	program := regexp.MustCompile(`/usr/local/bin/[a-z-]+`)
	var paths []string
	for _, unit := range units {
		text := program.ReplaceAllString(read(t, unit), "/bin/true")
		paths = append(paths, write(t, dir, filepath.Base(unit), text))
	}
	if out := run(t, "systemd-analyze", append([]string{"verify", "--man=no"}, paths...)...); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	level := regexp.MustCompile(`exposure level for \S+: (\d+)\.(\d)`)
	for _, path := range paths {
		if !strings.HasSuffix(path, ".service") {
			continue
		}
		m := level.FindStringSubmatch(run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", path))
		if m == nil {
			t.Errorf("%s: no exposure level", path)
			continue
		}
		if n, err := strconv.Atoi(m[1] + m[2]); err != nil || n > exposureMax {
			t.Errorf("%s has an exposure of %s.%s, %v; want at most %d tenths", path, m[1], m[2], err, exposureMax)
		}
	}
}

// The socket's address is the one in the configuration, or the gateway would not take it.
func TestTheUnitsServeTheirConfiguration(t *testing.T) {
	t.Parallel()
	config := read(t, "deploy/systemd/sluice.yaml")
	validate(t, "deploy/systemd", config)
	address := regexp.MustCompile(`(?m)^ListenStream=(\S+)`).FindStringSubmatch(read(t, units[1]))
	if address == nil || !strings.Contains(config, "http: "+address[1]) {
		t.Errorf("the socket unit listens on %v, which is not the configuration's listen.http", address)
	}
	state := regexp.MustCompile(`(?m)^StateDirectory=(\S+)`).FindStringSubmatch(read(t, units[0]))
	if state == nil || !strings.Contains(config, "dir: /var/lib/"+state[1]) {
		t.Errorf("the service may write %v, which is not the store's folder", state)
	}
}

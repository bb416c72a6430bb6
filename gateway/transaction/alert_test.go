package transaction

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const alertGID = "g0000000000000000000000000000000000000000"

func (d *fixture) alert(t *testing.T, a alert) int {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.Bridge.ServeHTTP(w, httptest.NewRequest("POST", alertPath, bytes.NewReader(b)))
	return w.Code
}

// setBranch sets what the coordinator says of a transaction with one branch.
func (d *fixture) setBranch(gid, status, url, branchStatus string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[gid] = fmt.Sprintf(`{"transaction":{"gid":%q,"status":%q},"branches":[{"branch_id":"01","op":"compensate",`+
		`"status":%q,"url":%q}]}`, gid, status, branchStatus, url)
}

func alertGIDOf(t *testing.T) string {
	t.Helper()
	gid := alertGID[:gidLength]
	if !plausible(gid) {
		t.Fatalf("%q is no gid", gid)
	}
	return gid
}

// An alert counts when the coordinator has that branch, and makes it stuck: once in the log, and in the state.
func TestAlertIsTakenIn(t *testing.T) {
	d := newFixture(t)
	var log bytes.Buffer
	d.Bridge.logger = slog.New(slog.NewTextHandler(&log, nil))
	gid := alertGIDOf(t)
	address := "http://gateway.test/branch/" + gid + "/pay/undo/SIGNATURE"
	d.setBranch(gid, "aborting", address, "prepared")
	a := alert{GID: gid, Branch: address, RetryCount: 3, Error: `Post "` + address + `?op=compensate": connection refused`}
	for range 3 {
		if code := d.alert(t, a); code != http.StatusNoContent {
			t.Fatalf("an alert: %d, want 204", code)
		}
	}
	if n := d.asked(); n != 1 {
		t.Errorf("the coordinator was asked %d times, want once a minute", n)
	}
	stuck := d.Bridge.Stuck()
	if len(stuck) != 1 || stuck[0].Step != "pay" || stuck[0].Op != "undo" {
		t.Fatalf("stuck: %+v", stuck)
	}
	if got := d.Bridge.vainly(gid, "pay", "undo"); !strings.Contains(got, "connection refused") {
		t.Errorf("the step's reason is %q", got)
	}
	if strings.Count(log.String(), "level=ERROR") != 1 || strings.Contains(log.String(), "SIGNATURE") {
		t.Errorf("log: %s", log.String())
	}
	d.Bridge.stuck.ended(gid, "pay", "undo")
	if len(d.Bridge.Stuck()) != 0 {
		t.Error("a branch that has ended is stuck")
	}
}

// Whoever can reach the branch address cannot make a branch stuck, nor the coordinator busy.
func TestForgedAlertsAreRefused(t *testing.T) {
	d := newFixture(t)
	gid := alertGIDOf(t)
	address := "http://gateway.test/branch/" + gid + "/pay/undo/SIGNATURE"
	for _, c := range []struct {
		name, status, branchStatus, url string
		a                               alert
		want                            int
	}{
		{"another signature", "aborting", "prepared", address, alert{GID: gid, Branch: address + "x"}, 403},
		{"a branch that is done", "aborting", "succeed", address, alert{GID: gid, Branch: address}, 403},
		{"a transaction that has ended", "failed", "prepared", address, alert{GID: gid, Branch: address}, 403},
		{"another gid", "aborting", "prepared", address, alert{GID: strings.Replace(gid, "0", "1", 1), Branch: address}, 400},
		{"no branch", "aborting", "prepared", address, alert{GID: gid, Branch: "http://gateway.test/other"}, 400},
		{"nothing", "aborting", "prepared", address, alert{}, 400},
	} {
		d.setBranch(gid, c.status, c.url, c.branchStatus)
		d.Bridge.alerts.known = nil
		if code := d.alert(t, c.a); code != c.want {
			t.Errorf("%s: %d, want %d", c.name, code, c.want)
		}
	}
	if stuck := d.Bridge.Stuck(); len(stuck) > 0 {
		t.Errorf("stuck: %+v", stuck)
	}
	w := httptest.NewRecorder()
	d.Bridge.ServeHTTP(w, httptest.NewRequest("GET", alertPath, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	w = httptest.NewRecorder()
	long := strings.NewReader(strings.Repeat("x", 2*alertBytesMax))
	d.Bridge.ServeHTTP(w, httptest.NewRequest("POST", alertPath, long))
	if w.Code != http.StatusBadRequest {
		t.Errorf("a long one: %d", w.Code)
	}
}

// A made-up alert holds up none of the branch that it names, and a coordinator that was down for a moment neither.
func TestAForgedAlertHoldsUpNone(t *testing.T) {
	d := newFixture(t)
	gid := alertGIDOf(t)
	address := "http://gateway.test/branch/" + gid + "/pay/undo/SIGNATURE"
	d.setBranch(gid, "aborting", address, "prepared")
	if code := d.alert(t, alert{GID: gid, Branch: address + "x"}); code != http.StatusForbidden {
		t.Fatalf("a forged one: %d, want 403", code)
	}
	d.mu.Lock()
	known := d.known[gid]
	d.known[gid] = "out of order"
	d.mu.Unlock()
	if code := d.alert(t, alert{GID: gid, Branch: address}); code != http.StatusServiceUnavailable {
		t.Errorf("while the coordinator is broken: %d, want 503", code)
	}
	d.mu.Lock()
	d.known[gid] = known
	d.mu.Unlock()
	if code := d.alert(t, alert{GID: gid, Branch: address}); code != http.StatusNoContent || len(d.Stuck()) != 1 {
		t.Errorf("then: %d, want 204, stuck: %+v", code, d.Stuck())
	}
}

func TestAlertsAreBounded(t *testing.T) {
	var a alerts
	now := time.Now()
	for i := range alertsAtOnce {
		if ask, busy := a.begin(alertKey{byte(i)}, now); !ask || busy {
			t.Fatalf("number %d: %v, %v", i, ask, busy)
		}
	}
	if _, busy := a.begin(alertKey{255}, now); !busy {
		t.Error("there is no limit of those at once")
	}
	for range alertsAtOnce {
		a.end()
	}
	for i := range 2 * alertsKnownMax {
		if ask, _ := a.begin(alertKey{1, byte(i), byte(i >> 8)}, now); ask {
			a.end()
		}
	}
	if len(a.known) > alertsKnownMax {
		t.Errorf("%d are remembered", len(a.known))
	}
	if ask, _ := a.begin(alertKey{2}, now.Add(2*alertAgain)); !ask {
		t.Error("the old ones are not forgotten")
	}
}

package idempotency_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutants are the safeguards of this package, each taken out. Whoever rewords one of these lines
// rewords it here.
var mutants = []struct {
	name  string
	file  string
	edits []string // pairs of what stands there and what it becomes
}{
	{"no fence", "core.go", []string{"|| rec.Token != token && !settlesLate(rec, ch, now) {", "{"}},
	{"a claim takes over a running lease", "core.go",
		[]string{"case seen.State == Unknown && (c.Retry ||",
			"case (seen.State == Unknown || seen.State == InFlight) && (c.Retry ||"}},
	{"a lease never lapses", "core.go", []string{
		"if seen.State == InFlight && !now.Before(seen.LeaseUntil) && !seen.NotDispatched {", "if false {",
	}},
	{"no fingerprint check in the core", "core.go", []string{"case seen.Fingerprint != c.Fingerprint:", "case false:"}},
	{"no fingerprint check in the filter", "filter.go",
		[]string{"case rec.Fingerprint != c.Fingerprint:", "case false:"}},
	{"other requests are joined", "filter.go", []string{"callKey{id, fingerprint}", "callKey{id, [32]byte{}}"}},
	{"a response is given before it is stored", "handle.go", []string{
		"err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)\n" +
			"\tx.Measured.AddStore(began)\n\tswitch {\n\tcase err == nil:\n\t\th.finishCall",
		"later := Change{Op: Finish, Response: bytes.Clone(ch.Response), Created: ch.Created}\n" +
			"\tf.Calls.inBackground(func() { " +
			"_ = f.Store.Change(context.Background(), h.id, h.claimed.Token, later) })\n" +
			"\tx.Measured.AddStore(began)\n\tswitch err := error(nil); {\n\tcase err == nil:\n\t\th.finishCall",
	}},
	{"a late owner cannot settle an unknown outcome", "core.go",
		[]string{"return ch.Op == Finish && rec.Created", "return false && rec.Created"}},
	{"a late owner settles what another one holds", "core.go", []string{"&& rec.at(now).State == Unknown", ""}},
	{"a late owner's client gets what is not recorded", "handle.go",
		[]string{"return h.finishLate(x, ch)", "return nil"}},
	{"a late owner's client is told of a failure in place of what is recorded", "filter.go",
		[]string{"if lost {", "if lost && h == nil {"}},
	{"what was sent is freed", "handle.go", []string{"case !x.Dispatched:", "case true:"}},
	{"an outcome that nobody knows is free", "settings.go", []string{"return MarkUnknown", "return Free"}},
	{"a claim whose acknowledgement was lost is used and given back", "filter.go", []string{
		"return f.notClaimed(x, c, err, &found)",
		"_ = f.notClaimed(x, c, err, &found); goesOn = true; " +
			"f.acquire(x, s, h, &Record{ID: c.ID, Token: c.Token, Attempt: 1}, now); return nil",
	}},
	{"a retry does not raise the attempt", "core.go",
		[]string{"attempt, created = seen.Attempt+1, seen.Created", "attempt, created = seen.Attempt, seen.Created"}},
	{"a later attempt is freed and the first one with it", "core.go",
		[]string{"if rec.Attempt <= 1 {", "if true {"}},
	{"a response is overwritten", "core.go", []string{"if rec.State == Answered {", "if false {"}},
	{"a renewal goes beyond the cap", "core.go", []string{
		"if rec.State != InFlight || !now.Before(rec.CapUntil) {", "if rec.State != InFlight {",
		"if next.LeaseUntil.After(rec.CapUntil) {", "if false {",
	}},
	{"what a probe found out lets any unknown outcome be tried again", "core.go",
		[]string{"c.RetryOf == seen.Token && c.RetryOf != 0", "c.RetryOf != 0"}},
	{"leases are not renewed", "renewals.go", []string{"go h.renew()", "_ = h"}},
	{"a claim whose acknowledgement was lost is not given back", "filter.go",
		[]string{"f.retryInBackground(c.ID, c.Token, Change{Op: Free}, c.Cap, c.Lease)", ""}},
	{"a duplicate waits longer than its route says", "filter.go",
		[]string{"w.began.Add(w.wait)", "w.began.Add(time.Hour)"}},
	{"the store does not learn of a repetition", "handle.go",
		[]string{"Lease: f.settings.Lease, Attempt: attempt}", "Lease: f.settings.Lease}"}},
	{"a call is not finished", "filter.go", []string{"if !goesOn {", "if !goesOn && found.reply == nil {"}},
}

// TestMutants: the simulator is as good as what it finds. Without any one of the safeguards it has
// to fail in its short form, with a seed to replay; with all of them, built in the same way, it
// passes.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			out, err := simulateMutant(t, m.file, m.edits...)
			switch {
			case err == nil:
				t.Errorf("the simulator passes without it:\n%s", out)
			case !strings.Contains(out, "replay: go test ./filters/idempotency -run '^TestSim$' -v -sim.seed="):
				t.Errorf("it fails, and names no seed: %v\n%s", err, out)
			default:
				t.Log(firstFailure(out))
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		if out, err := simulateMutant(t, "core.go"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func firstFailure(out string) string {
	_, rest, _ := strings.Cut(out, "seed ")
	lines := strings.SplitN(rest, "\n", 3)
	return "seed " + strings.Join(lines[:min(2, len(lines))], "\n")
}

// simulateMutant runs the short form of the simulator on the package with a file edited.
func simulateMutant(t *testing.T, file string, edits ...string) (string, error) {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for i := 0; i < len(edits); i += 2 {
		if n := strings.Count(text, edits[i]); n != 1 {
			t.Fatalf("%s has %q %d times, one is to be replaced", file, edits[i], n)
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	dir := t.TempDir()
	mutant, overlay := filepath.Join(dir, file), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutant}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutant: []byte(text), overlay: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=2m",
		"-run", "^TestSim$", ".")
	out, err := c.CombinedOutput()
	return string(out), err
}

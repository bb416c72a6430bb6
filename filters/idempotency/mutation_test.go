package idempotency_test

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/mutants"
)

// safeguards are those of this package, and the edits take each out. Whoever rewords one of these lines rewords it
// here.
var safeguards = []mutants.Mutant{
	{Name: "no fence", Edits: []string{"core.go",
		"|| rec.Token != token && !settlesLate(rec, ch, now) {",
		"|| rec.Token != token && !settlesLate(rec, ch, now) && !MUTANT {"}},
	{Name: "a claim takes over a running lease", Edits: []string{"core.go",
		"case seen.State == Unknown && (c.Retry ||",
		"case (seen.State == Unknown || MUTANT && seen.State == InFlight) && (c.Retry ||"}},
	{Name: "a lease never lapses", Edits: []string{"core.go",
		"if seen.State == InFlight && !now.Before(seen.LeaseUntil) && !seen.NotDispatched {",
		"if seen.State == InFlight && !now.Before(seen.LeaseUntil) && !seen.NotDispatched && !MUTANT {"}},
	{Name: "no fingerprint check in the core", Edits: []string{"core.go",
		"case seen.Fingerprint != c.Fingerprint:", "case seen.Fingerprint != c.Fingerprint && !MUTANT:"}},
	{Name: "no fingerprint check in the filter", Edits: []string{"filter.go",
		"case rec.Fingerprint != c.Fingerprint:", "case rec.Fingerprint != c.Fingerprint && !MUTANT:"}},
	{Name: "other requests are joined", Edits: []string{"filter.go",
		"callKey{id, fingerprint}", "callKey{id, map[bool][32]byte{false: fingerprint}[MUTANT]}"}},
	{Name: "a response is given before it is stored", Edits: []string{"handle.go",
		"err := f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)\n" +
			"\tx.Measured.AddStore(began)\n\tswitch {\n\tcase err == nil:\n\t\th.finishCall",
		"var err error\n\tif later := ch; MUTANT {\n\t\tlater.Response = bytes.Clone(ch.Response)\n" +
			"\t\tf.Calls.inBackground(func() { " +
			"_ = f.Store.Change(context.Background(), h.id, h.claimed.Token, later) })\n" +
			"\t} else {\n\t\terr = f.Store.Change(context.Background(), h.id, h.claimed.Token, ch)\n\t}\n" +
			"\tx.Measured.AddStore(began)\n\tswitch {\n\tcase err == nil:\n\t\th.finishCall"}},
	{Name: "a late owner cannot settle an unknown outcome", Edits: []string{"core.go",
		"return ch.Op == Finish && rec.Created", "return !MUTANT && ch.Op == Finish && rec.Created"}},
	{Name: "a late owner settles what another one holds", Edits: []string{"core.go",
		"&& rec.at(now).State == Unknown", "&& (MUTANT || rec.at(now).State == Unknown)"}},
	{Name: "a late owner's client gets what is not recorded", Edits: []string{"handle.go",
		"return h.finishLate(x, ch)", "if MUTANT {\n\t\t\treturn nil\n\t\t}\n\t\treturn h.finishLate(x, ch)"}},
	{Name: "a late owner's client is told of a failure in place of what is recorded", Edits: []string{"filter.go",
		"if lost {", "if lost && (h == nil || !MUTANT) {"}},
	{Name: "what was sent is freed", Edits: []string{"handle.go",
		"case !x.Dispatched:", "case !x.Dispatched || MUTANT:"}},
	{Name: "an outcome that nobody knows is free", Edits: []string{"settings.go",
		"return MarkUnknown", "if MUTANT {\n\t\treturn Free\n\t}\n\treturn MarkUnknown"}},
	{Name: "a claim whose acknowledgement was lost is used and given back", Edits: []string{"filter.go",
		"return f.notClaimed(x, c, err, &found)",
		"if !MUTANT {\n\t\t\t\treturn f.notClaimed(x, c, err, &found)\n\t\t\t}\n" +
			"\t\t\t_ = f.notClaimed(x, c, err, &found)\n\t\t\tgoesOn = true\n" +
			"\t\t\tf.acquire(x, s, h, &Record{ID: c.ID, Token: c.Token, Attempt: 1}, now)\n\t\t\treturn nil"}},
	{Name: "a retry does not raise the attempt", Edits: []string{"core.go",
		"attempt, created = seen.Attempt+1, seen.Created",
		"attempt, created = seen.Attempt+1, seen.Created\n\t\t\tif MUTANT {\n\t\t\t\tattempt--\n\t\t\t}"}},
	{Name: "a later attempt is freed and the first one with it", Edits: []string{"core.go",
		"if rec.Attempt <= 1 {", "if rec.Attempt <= 1 || MUTANT {"}},
	{Name: "a response is overwritten", Edits: []string{"core.go",
		"if rec.State == Answered {", "if rec.State == Answered && !MUTANT {"}},
	{Name: "a renewal goes beyond the cap", Edits: []string{
		"core.go", "if rec.State != InFlight || !now.Before(rec.CapUntil) {",
		"if rec.State != InFlight || !now.Before(rec.CapUntil) && !MUTANT {",
		"core.go", "if next.LeaseUntil.After(rec.CapUntil) {", "if next.LeaseUntil.After(rec.CapUntil) && !MUTANT {"}},
	{Name: "what a probe found out lets any unknown outcome be tried again", Edits: []string{"core.go",
		"c.RetryOf == seen.Token && c.RetryOf != 0", "(c.RetryOf == seen.Token || MUTANT) && c.RetryOf != 0"}},
	{Name: "leases are not renewed", Edits: []string{"renewals.go",
		"go h.renew()", "if !MUTANT {\n\t\t\tgo h.renew()\n\t\t}"}},
	{Name: "a claim whose acknowledgement was lost is not given back", Edits: []string{"filter.go",
		"f.retryInBackground(c.ID, c.Token, Change{Op: Free}, c.Cap, c.Lease)",
		"if !MUTANT {\n\t\t\tf.retryInBackground(c.ID, c.Token, Change{Op: Free}, c.Cap, c.Lease)\n\t\t}"}},
	{Name: "a duplicate waits longer than its route says", Edits: []string{"waitbudget.go",
		"w.began.Add(w.wait)", "w.began.Add(map[bool]time.Duration{false: w.wait, true: time.Hour}[MUTANT])"}},
	{Name: "the store does not learn of a repetition", Edits: []string{"handle.go",
		"Lease: f.settings.Lease, Attempt: attempt}",
		"Lease: f.settings.Lease, Attempt: map[bool]int{false: attempt}[MUTANT]}"}},
	{Name: "a call is not finished", Edits: []string{"filter.go",
		"if !goesOn {", "if !goesOn && (found.reply == nil || !MUTANT) {"}},
}

// TestMutants: the simulator is as good as what it finds. Without any one of the safeguards it has to fail in its short
// form, with a seed to replay; with all of them, built in the same way, it passes.
func TestMutants(t *testing.T) {
	program := mutants.Build(t, ".", "idempotency", safeguards)
	simulate := func(t *testing.T, mutant string) (string, error) {
		out, err := program.Command(t, mutant, "-test.run", "^TestSim$", "-test.timeout", "2m").CombinedOutput()
		return string(out), err
	}
	for _, m := range safeguards {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			out, err := simulate(t, m.Name)
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
		if out, err := simulate(t, ""); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

func firstFailure(out string) string {
	_, rest, _ := strings.Cut(out, "seed ")
	lines := strings.SplitN(rest, "\n", 3)
	return "seed " + strings.Join(lines[:min(2, len(lines))], "\n")
}

//go:build !race

// The race detector would take most of the time, and is not what these tests are about.

package simulation

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/mutants"
)

// safeguards are those of package transaction, and the edits take each out. Whoever rewords one of these lines rewords
// it here.
var safeguards = []struct {
	name  string
	mode  string
	seed  uint64   // that catches it, and is tried first; 0: not known
	rare  bool     // it takes more seeds than the short form has
	edits []string // file, what stands there, and what it becomes, with MUTANT for the question
}{
	{"a submit that was not acknowledged is repeated", modeSaga, 14, false, []string{"sagamode.go",
		"done, err := b.submitSaga(ctx, &s.Saga, asked)",
		"done, err := b.submitSaga(ctx, &s.Saga, asked)\n\t\tif MUTANT && err != nil {\n" +
			"\t\t\tdone, err = b.client.SubmitOnce(ctx, &s.Saga)\n\t\t}"}},
	{"an undo is sent while the do is under way", modeSaga, 1, false, []string{"admit.go",
		"case ok && do.State == idempotency.InFlight &&", "case ok && !MUTANT && do.State == idempotency.InFlight &&"}},
	{"the undo of a refused do is sent", modeSaga, 1, false, []string{"admit.go",
		"b.refusedDo(call, &do):", "b.refusedDo(call, &do) && !MUTANT:"}},
	{"a do that was refused at a later attempt counts as never done", modeSaga, 0, true, []string{"admit.go",
		"return do.Attempt <= 1 && call.env", "return (do.Attempt <= 1 || MUTANT) && call.env"}},
	{"a signature is good in any state", modeSaga, 4, false, []string{
		"admit.go", "case t.Status != call.operation.state:", "case t.Status != call.operation.state && !MUTANT:",
		"admit.go", "} else if ended {", "} else if ended && !MUTANT {"}},
	{"the end of a call is not kept when the store is away", modeSaga, 0, true, []string{"branchcall.go",
		"kept := translated != 0 &&", "kept := !MUTANT && translated != 0 &&"}},
	{"never submitted is judged at once", modeSaga, 14, false, []string{"ruleout.go",
		"if time.Since(f.missing) < neverSubmittedAfter {",
		"if time.Since(f.missing) < neverSubmittedAfter && !MUTANT {"}},
	{"the steps are not ruled out before the verdict", modeSaga, 0, true, []string{"ruleout.go",
		"for _, step := range steps {", "for _, step := range steps {\n\t\tif MUTANT {\n\t\t\tbreak\n\t\t}"}},
	{"a used gid is joined", modeSaga, 33, false, []string{"gid.go",
		"case !t.Status.Ended(), t.Status", "case !t.Status.Ended(), MUTANT, t.Status"}},
	{"a known gid is submitted", modeSaga, 0, true, []string{"gid.go",
		"case use == gidKnown:\n\t\treturn gid, true, nil", "case use == gidKnown:\n\t\treturn gid, !MUTANT, nil"}},
	{"what the coordinator refuses is submitted all the same", modeSaga, 0, true, []string{"newonly.go",
		"if !errors.Is(err, sagaclient.ErrNotOffered) {",
		"if MUTANT && errors.Is(err, sagaclient.ErrKnown) {\n\t\treturn b.client.SubmitOnce(ctx, s)\n\t}\n" +
			"\tif !errors.Is(err, sagaclient.ErrNotOffered) {"}},
	{"the end of a transaction is not expected to be told", modeXA, 0, false, []string{"executor.go",
		"if e.settings.Notify {\n\t\tif err := b.notifier.Expect",
		"if e.settings.Notify && !MUTANT {\n\t\tif err := b.notifier.Expect"}},
	{"what others left behind is not followed", modeSaga, 46, false, []string{"follow.go",
		"for _, rec := range list {\n\t\tb.follow(rec)",
		"for _, rec := range list {\n\t\tif !MUTANT {\n\t\t\tb.follow(rec)\n\t\t}"}},
	{"a search of the store that failed is not repeated soon", modeSaga, 0, true, []string{"bridge.go",
		"again = scanAgain\n\t\t\treturn",
		"again = scanAgain\n\t\t\tif MUTANT {\n\t\t\t\tagain = scanEvery\n\t\t\t}\n\t\t\treturn"}},
	{"the coordinator's delay is not held", modeSaga, 100, false, []string{
		"follow.go", "most > 0 && v.retryDelay > most {", "most > 0 && v.retryDelay > most && !MUTANT {",
		"advance.go", "if !b.advances.due(now) {", "if !b.advances.due(now) || MUTANT {"}},
	{"a transaction that the store has not delegated is submitted", modeSaga, 0, true, []string{"executor.go",
		"case errors.Is(err, filters.ErrClaimLost):",
		"case err != nil && MUTANT:\n\tcase errors.Is(err, filters.ErrClaimLost):"}},
	{"a try after its cancel is let through", modeTCC, 22, false, []string{
		"firstphase.go", "over := time.Now().Add(m.timeout)",
		"over := time.Now().Add(m.timeout + map[bool]time.Duration{MUTANT: time.Minute}[true])",
		"firstphase.go", "err = b.stillPrepared(always, call)",
		"if !MUTANT {\n\t\t\terr = b.stillPrepared(always, call)\n\t\t}",
		"firstphase.go", "case t.Status != sagaclient.Prepared:", "case t.Status != sagaclient.Prepared && !MUTANT:",
		"firstphase.go", "if !before(time.Now(), m.last) {\n\t\treturn errNoTime\n\t}\n\terr := m.phase",
		"if !before(time.Now(), m.last) && !MUTANT {\n\t\treturn errNoTime\n\t}\n\terr := m.phase"}},
	{"a coordinator that has lost the branches is believed", modeTCC, 1242, true, []string{"phaseview.go",
		"if v.State == Succeeded && !allRegistered", "if v.State == Succeeded && !MUTANT && !allRegistered"}},
	{"a transaction of two phases is submitted twice", modeTCC, 33, false, []string{"outcome.go",
		"if !errors.Is(err, sagaclient.ErrCoordinatorDown) ||",
		"if !errors.Is(err, sagaclient.ErrCoordinatorDown) && !(MUTANT && err != nil) ||"}},
	{"the decision is not written down", modeTCC, 356, false, []string{"outcome.go",
		"settle, err := b.decide(ctx, m, decidedSubmit, token)\n",
		"settle, err := b.decide(ctx, m, decidedSubmit, token)\n\tif MUTANT {\n\t\terr = nil\n\t}\n"}},
	{"the query says done without asking", modePrimary, 13, false, []string{"branchcall.go",
		"status, body, outcome := b.services.CallBranch(ctx, call.call.Service, x, call.call.Body)",
		"status, body, outcome := b.services.CallBranch(ctx, call.call.Service, x, call.call.Body)\n" +
			"\tif MUTANT && call.op == opQuery {\n\t\tstatus, outcome = 200, filters.Completed\n\t}"}},
	{"a message that comes late is not given up", modeMessage, 407, true, []string{"branch.go",
		"call.operation.stops {", "call.operation.stops && !MUTANT {"}},
}

// How many seeds a mutant gets before it counts as not caught.
const (
	seedsMutant     = 120
	seedsMutantLong = 5000 // where the simulator runs in its long form: more seeds than in the short one
)

// TestMutants: the simulator is as good as what it finds. Without any one of the safeguards it fails, with a seed to
// replay.
func TestMutants(t *testing.T) {
	list := make([]mutants.Mutant, 0, len(safeguards))
	for _, m := range safeguards {
		list = append(list, mutants.Mutant{Name: m.name, Edits: m.edits})
	}
	program := mutants.Build(t, "..", "transaction", list)
	long, seeds := *simSeeds > seedsShort, seedsMutant
	if long {
		seeds = seedsMutantLong
	}
	for _, m := range safeguards {
		if m.rare && !long {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			run := func(from uint64, n int) ([]byte, error) {
				return program.Command(t, m.name, "-test.run", "^TestSim$", "-sim.failed", "1", "-sim.mode", m.mode,
					"-sim.from", fmt.Sprint(from), "-sim.seeds", fmt.Sprint(n)).CombinedOutput()
			}
			out, err := []byte(nil), error(nil)
			if m.seed != 0 {
				out, err = run(m.seed, 1)
			}
			if err == nil {
				out, err = run(1, seeds)
			}
			_, rest, found := strings.Cut(string(out), "seed ")
			switch {
			case err == nil:
				t.Errorf("the simulator passes without it")
			case !found || !bytes.Contains(out, []byte("replay: go test ./gateway/transaction/simulation")):
				t.Errorf("it fails, and names no seed: %v\n%s", err, out)
			default:
				lines := strings.SplitN(rest, "\n", 3)
				t.Logf("seed %s\n%s", lines[0], lines[1])
			}
		})
	}
}

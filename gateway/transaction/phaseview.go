package transaction

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// custom is what the coordinator keeps of a transaction for the gateway: at most 1024 bytes, see
// config.Transaction.
type custom struct {
	Steps   []string `json:"steps,omitempty"` // their names, in the order of the coordinator's numbers
	Primary bool     `json:"primary,omitempty"`
}

func (c custom) encode() string {
	b, err := json.Marshal(c)
	if err != nil { // texts only: it cannot fail
		panic("transaction: " + err.Error())
	}
	return string(b)
}

func customOf(t *sagaclient.Transaction) (c custom) {
	_ = json.Unmarshal([]byte(t.Custom), &c) // without it the branches alone say what the steps are
	return c
}

// viewPhases fills in the steps of a transaction of two phases. Which of them was refused is in the reason that the
// gateway gave when it aborted.
func (b *Bridge) viewPhases(t *sagaclient.Transaction, v *View, begin, forward, back string) {
	var why abortReason
	if !v.timedOut {
		_ = json.Unmarshal([]byte(t.Reason), &why) // else the coordinator's own
		v.timedOut = why.TimedOut
	}
	// A submit of what the coordinator has lost makes it anew, without a branch, and so ends it: nothing of it was
	// brought to its end, and what was done is held until an operator sees to it.
	if v.State == Succeeded && !allRegistered(t, forward) {
		v.State = Unknown
	}
	m := b.managers.get(t.GID)
	for i, name := range customOf(t).Steps {
		s := StepView{Name: name, State: StepPending}
		forwards, registered := phaseBranch(t, branchID(i), forward)
		backs, _ := phaseBranch(t, branchID(i), back)
		at := slices.IndexFunc(why.Refused, func(r StepView) bool { return r.Name == name })
		switch {
		case v.State == Pending && t.Status == sagaclient.Prepared:
			if m != nil && m.of(name) == done {
				s.Reason = "the " + begin + " is done, the " + forward + " comes when all are"
			} else {
				s.Reason = b.vainly(t.GID, name, begin)
			}
		case v.State == Succeeded, v.State == Pending && registered && forwards.Status == sagaclient.Succeeded:
			s.State = StepSucceeded
		case v.State == Pending:
			s.Reason = b.vainly(t.GID, name, forward)
		case at >= 0:
			s.State, s.Reason = StepFailed, why.Refused[at].Reason
		case registered && (v.State == Failed || backs.Status == sagaclient.Succeeded): // SQL stores write that late
			s.State = StepCompensated
		case registered:
			s.State, s.Reason = StepCompensating, b.vainly(t.GID, name, back)
		case v.State == Failed:
			s.State = StepSkipped
		}
		rolledBack := v.State == Failed || v.State == Compensating
		if rolledBack && v.timedOut && s.Reason == "" && (!registered || slices.Contains(why.Late, name)) {
			s.Reason = notInTime
		}
		v.Steps = append(v.Steps, s)
	}
}

// allRegistered reports whether the coordinator has a branch of every step.
func allRegistered(t *sagaclient.Transaction, op string) bool {
	for i := range customOf(t).Steps {
		if _, ok := phaseBranch(t, branchID(i), op); !ok {
			return false
		}
	}
	return true
}

// phaseBranch returns the branch of a step and an operation. Where a confirm was registered apart it is that one.
func phaseBranch(t *sagaclient.Transaction, id, op string) (found sagaclient.Branch, ok bool) {
	for _, br := range t.Branches {
		if br.Op == op && strings.TrimSuffix(br.ID, apart) == id && (br.URL != "" || !ok) {
			found, ok = br, true
		}
	}
	return found, ok
}

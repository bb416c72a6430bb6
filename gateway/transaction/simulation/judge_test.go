package simulation

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// refuses reports whether the service of a step has a reason to refuse it. World.mu may be held.
func (w *world) refuses(gid, step string) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte("refuses " + gid[len(gid)-8:] + step))
	return rand.New(rand.NewPCG(w.seed, h.Sum64())).Float64() < w.plan.refusals
}

// judgeSendLocked judges a call at the moment at which a gateway sends it.
func (w *world) judgeSendLocked(g *gateway, on *operation, attempt int) {
	w.judgeSecondPhaseLocked(g, on)
	if on.op == "undo" || on.op == "query" {
		do := &on.of.forward
		for _, c := range do.calls {
			if c.open {
				w.failLocked("%s is sent by %s while the do, attempt %d of %s, is under way", on, g.name, c.attempt,
					c.by.name)
			}
		}
		if len(do.calls) == 1 && do.calls[0].attempt == 1 && do.calls[0].status == 409 && do.stored {
			w.failLocked("%s is sent, and its do was refused at once", on)
		}
		if len(do.calls) == 0 {
			w.seen[map[string]string{modeSaga: "undos without a do", modeTCC: "cancels without a try",
				modeXA:      "rollbacks without a branch",
				modePrimary: "queries without a primary"}[w.plan.mode]]++
		}
	}
	for _, c := range on.calls {
		if c.status != 0 && (on.stored || c.by == g) {
			w.failLocked("%s is sent again by %s, and attempt %d of %s has ended with %d", on, g.name, c.attempt,
				c.by.name, c.status)
		}
		if c.open {
			w.failLocked("%s is sent by %s while attempt %d of %s is under way", on, g.name, c.attempt, c.by.name)
		}
		if c.attempt >= attempt {
			w.failLocked("%s has attempt %d after attempt %d", on, attempt, c.attempt)
		}
	}
	if len(on.calls) > 0 {
		w.seen["second attempts"]++
	}
}

// judgeSecondPhaseLocked judges the order of the operations of one step, and that of a message and its primary.
func (w *world) judgeSecondPhaseLocked(g *gateway, on *operation) {
	st := on.of
	switch {
	case on.op == "do" && len(st.back.calls) > 0:
		w.failLocked("%s is sent by %s after its undo", on, g.name)
	case on.op == "do" && w.plan.mode == modePrimary && st.name != nameOfPrimary &&
		!w.services.stepOf(st.gid, nameOfPrimary).done:
		w.failLocked("%s is delivered by %s, and its primary is not done", on, g.name)
	case on.op == "undo" && len(st.confirm.calls) > 0, on.op == "confirm" && len(st.back.calls) > 0:
		w.failLocked("%s is sent by %s beside a confirm or a cancel", on, g.name)
	}
	if on.op == "query" || on.op == "confirm" {
		w.seen[on.op+" calls"]++
	}
}

// judgeEffectLocked judges an effect at a service against what clients were told.
func (w *world) judgeEffectLocked(st *step, op string) {
	w.traceLocked("effect: %s of %s/%s", op, name(st.gid), st.name)
	switch told := w.told[st.gid]; {
	case told == "succeeded" && op == "undo":
		w.failLocked("%s/%s is undone, and a client was told that the transaction succeeded", name(st.gid), st.name)
	case told == "failed" && op != "undo":
		w.failLocked("%s/%s is done, and a client was told that the transaction failed", name(st.gid), st.name)
	}
	if op == "undo" {
		w.seen[map[string]string{modeSaga: "effective undos", modeTCC: "effective cancels",
			modeXA: "effective rollbacks"}[w.plan.mode]]++
		if st.confirmed {
			w.failLocked("%s/%s is cancelled and confirmed", name(st.gid), st.name)
		}
	}
}

// tellLocked judges a final state that a client is told.
func (w *world) tellLocked(gid, state, whom string) {
	if before := w.told[gid]; before != "" && before != state {
		w.failLocked("%s is told that %s is %s, and it was %s before", whom, name(gid), state, before)
	}
	if w.told[gid] == "" {
		w.seen["told "+state]++
		w.told[gid] = state
		for _, wrong := range w.contradictsLocked(gid, state) {
			w.failLocked("%s is told that %s is %s: %s", whom, name(gid), state, wrong)
		}
		if state == "succeeded" && w.cancelled[gid] && !w.forgotten[gid] {
			w.failLocked("%s is told that %s succeeded, and an operator that it is cancelled", whom, name(gid))
		}
		if state == "failed" && !w.mayFailLocked(gid) {
			w.failLocked("%s is told that %s is failed: for no reason", whom, name(gid))
		}
	}
}

// mayFailLocked reports whether a transaction has a reason to fail: a service refused a step, its time is over (no
// step begins in the last tenth of it), an operator asked to cancel it, the coordinator did not get it for half a
// minute, or an operator had its key forgotten.
func (w *world) mayFailLocked(gid string) bool {
	for _, n := range w.plan.names() {
		for _, c := range w.services.stepOf(gid, n).forward.calls {
			if c.status == 409 || w.plan.mode == modeXA && c.status != 200 {
				return true
			}
		}
	}
	return w.forgotten[gid] || w.cancels[gid] || time.Since(w.begun[gid]) >= min(30*time.Second, w.plan.timeout*9/10)
}

// contradictsLocked returns what at the services does not agree with a final state.
func (w *world) contradictsLocked(gid, state string) (wrong []string) {
	for _, n := range w.plan.names() {
		st := w.services.stepOf(gid, n)
		switch {
		case state == "succeeded" && !st.effective():
			wrong = append(wrong, fmt.Sprintf("step %s is not there (done %v, undone %v)", n, st.done, st.undone))
		case state == "succeeded" && !st.confirmed && w.plan.phases():
			wrong = append(wrong, "step "+n+" is held, and not confirmed")
		case state == "failed" && st.effective():
			wrong = append(wrong, "step "+n+" is left")
		}
	}
	return wrong
}

// audit judges everything when it has had its time.
func (w *world) audit() {
	w.trace("audit")
	w.mu.Lock()
	for _, gid := range slices.Sorted(maps.Keys(w.dtm.rows)) {
		if r := w.dtm.rows[gid]; !r.ended() && !w.forgotten[gid] {
			w.failLocked("%s is %s %v after the last fault; it is looked at again in %v", name(gid), r.status,
				w.plan.endsWithin(), time.Until(r.next))
		}
	}
	keys := slices.Sorted(maps.Keys(w.keys))
	w.mu.Unlock()
	for _, key := range keys {
		for i := range w.gateways {
			w.auditKey(w.keys[key], i)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, gid := range slices.Sorted(maps.Keys(w.dtm.rows)) {
		state := map[string]string{"succeed": "succeeded", "failed": "failed"}[w.dtm.rows[gid].status]
		if w.dtm.forgot[gid] && w.plan.phases() { // submitted anew it ends at once, and nobody may be told so
			continue
		}
		for _, wrong := range w.contradictsLocked(gid, state) {
			w.failLocked("the coordinator has %s as %s: %s", name(gid), state, wrong)
		}
		if told := w.told[gid]; state != "" && told != "" && told != state {
			w.failLocked("clients were told that %s is %s, and the coordinator has it as %s", name(gid), told, state)
		}
	}
	for _, key := range keys {
		w.keys[key].judgeLocked(w)
	}
}

// auditKey asks one gateway for a key that was used, once more, and for the status of its transactions.
func (w *world) auditKey(k *keyBook, place int) {
	whom := fmt.Sprintf("audit of %s at g%d", k.key, place)
	for _, gid := range slices.Sorted(maps.Keys(k.gids)) {
		v, found, err := w.gateway(place).bridge.Status(w.background(), gid, "checkout", k.principal)
		switch {
		case err != nil:
			w.fail("%s: status of %s: %v", whom, name(gid), err)
			continue
		case !found: // its record has expired, or is that of a later transaction
			continue
		}
		w.mu.Lock()
		if lost := w.dtm.forgot[gid]; !v.State.Final() && !lost {
			w.failLocked("%s: %s is %s %v after the last fault", whom, name(gid), v.State, w.plan.endsWithin())
		}
		if v.State.Final() {
			w.tellLocked(gid, string(v.State), whom)
			w.judgeViewLocked(&v)
		}
		w.mu.Unlock()
	}
}

// judgeViewLocked: the status resource agrees with the services.
func (w *world) judgeViewLocked(v *transaction.View) {
	for _, s := range v.Steps {
		st := w.services.stepOf(v.ID, s.Name)
		var ok bool
		switch s.State {
		case transaction.StepSucceeded:
			ok = st.effective()
		case transaction.StepCompensated:
			ok = !st.effective()
		case transaction.StepFailed, transaction.StepSkipped:
			ok = !st.effective()
		default:
			ok = false
		}
		if !ok {
			w.failLocked("%s is %s, its step %s is shown as %s; done %v, undone %v", name(v.ID), v.State, s.Name,
				s.State,
				st.done, st.undone)
		}
	}
}

// judgeLocked: one key has at most one transaction that succeeded, unless it was used anew when its time was over.
func (k *keyBook) judgeLocked(w *world) {
	list := map[string][]string{}
	for key := range w.services.steps {
		gid, _, _ := strings.Cut(key, "/")
		if gid[:len(gid)-8] != k.record || list[gid] != nil {
			continue
		}
		list[gid] = []string{}
		for _, n := range w.plan.names() {
			if st := w.services.stepOf(gid, n); st.effective() {
				list[gid] = append(list[gid], n)
			}
		}
	}
	succeeded := 0
	for _, gid := range slices.Sorted(maps.Keys(list)) {
		if len(list[gid]) > 0 {
			succeeded++
		}
	}
	if most := 1 + k.expired; succeeded > most {
		w.failLocked("%s has %d transactions of which something is left: %v; at most %d", k.key, succeeded, list, most)
	}
}

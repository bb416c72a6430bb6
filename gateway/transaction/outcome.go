package transaction

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// abortReason is what the coordinator keeps of why a transaction was aborted.
type abortReason struct {
	Refused  []StepView `json:"refused,omitempty"`
	Late     []string   `json:"late,omitempty"`     // steps
	TimedOut bool       `json:"timedOut,omitempty"` // no step refused
}

// encode returns the reason as the coordinator takes it.
func (a *abortReason) encode() string {
	for {
		b, err := json.Marshal(a)
		if err != nil { // texts only: it cannot fail
			panic("transaction: " + err.Error())
		}
		switch {
		case len(b) <= abortBytesMax:
			return string(b)
		case len(a.Refused) > 1:
			a.Refused = a.Refused[:len(a.Refused)-1]
		case len(a.Refused) == 1 && a.Refused[0].Reason != "":
			a.Refused[0].Reason = ""
		default:
			a.Late = nil
		}
	}
}

// abortBytesMax is how long a reason may be: DTM keeps 1024 characters.
const abortBytesMax = 1000

// reasonsMax bounds the refusals, and the late steps, that are kept.
const reasonsMax = 3

// outcome says whether all steps are done, and else why the transaction is aborted; undecided says that neither is
// known here.
func (m *manager) outcome() (why *abortReason, undecided bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	why = new(abortReason)
	all := true
	for i, s := range m.steps {
		name, _ := m.phase.step(i)
		all = all && s.progress == done
		switch s.progress {
		case refused:
			if len(why.Refused) < reasonsMax {
				why.Refused = append(why.Refused, StepView{Name: name, State: StepFailed, Reason: printable(s.reason)})
			}
		case late, waits, calling:
			if len(why.Late) < reasonsMax {
				why.Late = append(why.Late, name)
			}
		case inDoubt:
			undecided = true
		}
	}
	if all {
		return nil, false
	}
	why.TimedOut = len(why.Refused) == 0
	return why, undecided
}

// finish submits the transaction or aborts it.
func (m *manager) finish(ctx context.Context, b *Bridge) {
	why, undecided := m.outcome()
	if undecided {
		return
	}
	if why == nil {
		m.submit(ctx, b)
		return
	}
	reason := why.encode()
	always, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortFor)
	defer cancel()
	settle, err := b.decide(always, m, decidedAbort, randomToken())
	if err != nil { // an abort may be sent by several
		b.logger.Info("transaction: that it is aborted could not be written down", "gid", m.global.GID, "error", err)
	}
	for {
		err := b.client.Abort(always, &m.global, reason)
		if err == nil || errors.Is(err, sagaclient.ErrRejected) {
			settle()
			return
		}
		b.refusals.Warn(b.logger, time.Now(),
			"transaction: it could not be aborted; the coordinator does it when its time is over",
			"gid", m.global.GID, "error", err)
		if !b.pause(always, time.Second) {
			return
		}
	}
}

// submit submits the transaction, once: the decision is written down before, and whoever finds one does nothing.
func (m *manager) submit(ctx context.Context, b *Bridge) {
	token := randomToken()
	settle, err := b.decide(ctx, m, decidedSubmit, token)
	for err != nil && !errors.Is(err, errDecided) && b.pause(ctx, time.Second) {
		settle, err = b.decide(ctx, m, decidedSubmit, token)
	}
	if err != nil {
		b.logger.Error("transaction: it is not submitted, and rolled back when its time is over",
			"gid", m.global.GID, "error", err)
		return
	}
	for {
		sent, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
		err = b.client.SubmitPrepared(sent, &m.global)
		cancel()
		if !errors.Is(err, sagaclient.ErrCoordinatorDown) || !b.pause(ctx, time.Second) {
			break
		}
	}
	switch {
	case err == nil, errors.Is(err, sagaclient.ErrRejected): // the query says what it is
		settle()
		return
	case errors.Is(err, sagaclient.ErrUnknown):
		b.metrics.Unacknowledged.Inc()
	}
	b.logger.Warn("transaction: the submit was not acknowledged; the coordinator is asked, and rolls back if it does "+
		"not have it", "gid", m.global.GID, "error", err)
}

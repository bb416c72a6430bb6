package transaction

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// sagaMode: the coordinator calls the do of each step, and the undo of those that were done when one is
// refused or the time is over.
type sagaMode struct{}

var sagaOperations = []operation{
	{
		name: opDo, dtm: "action", state: sagaclient.Submitted, call: filters.DoCall, begins: true, refusable: true,
		of: func(e *envelope) *envelopeCall { return e.Do },
	},
	{
		name: opUndo, dtm: "compensate", state: sagaclient.Aborting, call: filters.UndoCall, undoes: opDo,
		of: func(e *envelope) *envelopeCall { return e.Undo },
	},
}

func (sagaMode) places(s *Settings) (steps, services []string) { return everyStep(s) }

func (sagaMode) asksFirst(b *Bridge) bool { return !b.refusesKnown(time.Now()) }

func (sagaMode) operations() []operation { return sagaOperations }

// render makes the saga: every call is rendered now, so that it does not change while it runs.
func (sagaMode) render(ctx context.Context, e *Executor, x *filters.Exchange) (rendered, error) {
	key, err := e.bridge.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	saga := &renderedSaga{sagaclient.Saga{
		GID: x.Logical.GID, Wait: true, Timeout: e.settings.Timeout, RetryEvery: e.settings.RetryEvery,
		Headers: e.bridge.keepFor(e.settings.KeepFor),
	}}
	length := 0
	for i := range e.steps {
		s := e.steps[i].Step
		_, payload, err := e.renderStep(x, s, e.steps[i].behind)
		if err != nil {
			return nil, err
		}
		if length += len(payload); length > stepsBytesMax {
			return nil, errPayload
		}
		do := branch{x.Logical.GID, s.Name, opDo, branchID(i)}
		step := sagaclient.Step{Name: s.Name, Payload: payload, Action: do.url(e.bridge.baseURL, key, payload)}
		if s.Undo != nil {
			undo := branch{x.Logical.GID, s.Name, opUndo, branchID(i)}
			step.Compensate = undo.url(e.bridge.baseURL, key, payload)
		}
		step.After = e.steps[i].after
		saga.Steps = append(saga.Steps, step)
	}
	return saga, nil
}

// branchID is the coordinator's number of the step at an index.
func branchID(i int) string { return fmt.Sprintf("%02d", i+1) }

type renderedSaga struct{ sagaclient.Saga }

// start submits the saga, once.
func (s *renderedSaga) start(ctx context.Context, b *Bridge, asked bool) *started {
	begun := newStarted()
	if !b.advertised {
		b.running.begin(&s.Saga, time.Now())
	}
	b.background.Go(func() {
		defer close(begun.settled)
		ctx, cancel := context.WithTimeout(ctx, submitTimeout)
		defer cancel()
		done, err := b.submitSaga(ctx, &s.Saga, asked)
		begun.succeeded = b.running.end(s.GID) == len(s.Steps) && done && err == nil
		begun.accepted <- err
	})
	return begun
}

func (sagaMode) view(ctx context.Context, b *Bridge, t *sagaclient.Transaction, v *View) {
	actions, compensations := map[string]sagaclient.Branch{}, map[string]sagaclient.Branch{}
	var ids []string
	for _, br := range t.Branches {
		if br.Op == "action" {
			actions[br.ID] = br
			ids = append(ids, br.ID)
		} else {
			compensations[br.ID] = br
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		s := StepView{Name: stepName(actions[id].URL)}
		s.State = stepState(actions[id].Status, compensations[id], v.State)
		if v.State == Compensating && b.undoing(ctx, t.GID, &s, compensations[id]) {
			s.State = StepCompensating
		}
		switch {
		case s.State == StepFailed:
			s.Reason = b.refusalReason(ctx, t.GID, s.Name, opDo)
		case s.State == StepCompensating:
			s.Reason = b.vainly(t.GID, s.Name, opUndo)
		case s.State == StepPending:
			s.Reason = b.vainly(t.GID, s.Name, opDo)
		case v.timedOut && actions[id].Status != sagaclient.Succeeded:
			s.Reason = notInTime
		}
		v.Steps = append(v.Steps, s)
	}
}

func stepState(action sagaclient.Status, compensation sagaclient.Branch, transaction State) StepState {
	rollback := transaction == Compensating || transaction == Failed
	switch {
	case action == sagaclient.Failed:
		return StepFailed
	case rollback && compensation.Status == sagaclient.Succeeded && compensation.URL != "":
		return StepCompensated
	case rollback && action == sagaclient.Succeeded && compensation.URL != "":
		return StepCompensating
	case action == sagaclient.Succeeded:
		return StepSucceeded
	case transaction == Failed:
		return StepSkipped
	}
	return StepPending
}

// undoing reports whether a step is being undone of whose do the coordinator knows no success: one with an
// unknown outcome is undone too, and one that was refused after such an attempt.
func (b *Bridge) undoing(ctx context.Context, gid string, s *StepView, undo sagaclient.Branch) bool {
	if undo.URL == "" || undo.Status == sagaclient.Succeeded || s.State == StepCompensating {
		return false
	}
	return b.begun(ctx, gid, s.Name, opUndo)
}

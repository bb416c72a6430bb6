package gateway

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// transactionSettings turns a transaction of the configuration into the settings of the route that
// leads to it.
func transactionSettings(name string, t *config.Transaction, statusPath string) transaction.Settings {
	s := transaction.Settings{
		Name: name, Mode: t.Mode, Steps: make([]transaction.Step, len(t.Steps)), StatusPath: statusPath,
		Wait: time.Duration(t.Wait), Timeout: time.Duration(t.Timeout),
		RetryEvery: time.Duration(t.Retry.Every), RetryMax: time.Duration(t.Retry.Max),
		KeepFor: time.Duration(t.KeepFor),
	}
	s.Notify = t.Notify != nil
	for i, step := range t.Steps {
		s.Steps[i] = transaction.Step{Name: step.Name, After: step.After, Do: branchCallOf(step.First())}
		if back := step.Back(); back != nil {
			undo := branchCallOf(back)
			s.Steps[i].Undo, s.Steps[i].NothingOn = &undo, statusRanges(back.NothingOn)
		}
		if step.Confirm != nil {
			confirm := branchCallOf(step.Confirm)
			s.Steps[i].Confirm = &confirm
		}
		s.Steps[i].FailOn = statusRanges(step.FailOn)
	}
	if p := t.Primary; p != nil {
		s.Primary = &transaction.Primary{
			Do: branchCallOf(p.Do), Query: branchCallOf(p.Query.Call()), FailOn: statusRanges(p.FailOn),
		}
	}
	return s
}

func statusRanges(list []config.StatusRange) (ranges []transaction.StatusRange) {
	for _, r := range list {
		ranges = append(ranges, transaction.StatusRange{From: r.From, To: r.To})
	}
	return ranges
}

func branchCallOf(c *config.Call) transaction.Call {
	call := transaction.Call{Service: c.Service, Method: c.Method, Path: c.Path, Body: c.Body}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		call.Headers = append(call.Headers, transaction.Field{Name: name, Value: c.Headers[name]})
	}
	return call
}

package gateway

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
)

// A step without "after" comes after the one before it, one with an empty list after none.
func TestTransactionSettingsKeepTheOrderOfSteps(t *testing.T) {
	t.Parallel()
	s := transactionSettings("checkout", &config.Transaction{
		Wait: config.Duration(
			time.Second,
		), Timeout: config.Duration(time.Minute), Retry: config.Retry{Every: config.Duration(2 * time.Second)},
		Steps: []*config.Step{
			{
				Name:   "a",
				Do:     &config.Call{Service: "one", Method: "POST"},
				FailOn: []config.StatusRange{{From: 402, To: 409}},
			},
			{Name: "b", After: []string{}, Do: &config.Call{Service: "two"}, Undo: &config.Call{Service: "three"}},
			{Name: "c", After: []string{"a", "b"}, Do: &config.Call{Service: "four"}},
		},
	}, "/v1/x/{id}")
	if s.Wait != time.Second || s.Timeout != time.Minute || s.RetryEvery != 2*time.Second ||
		s.StatusPath != "/v1/x/{id}" ||
		len(s.Steps) != 3 {
		t.Fatalf("%+v", s)
	}
	a, b, c := s.Steps[0], s.Steps[1], s.Steps[2]
	if a.After != nil || b.After == nil || len(b.After) != 0 || len(c.After) != 2 {
		t.Errorf("after %v, %v, %v", a.After, b.After, c.After)
	}
	if a.Undo != nil || b.Undo == nil || b.Undo.Service != "three" || a.Do.Method != "POST" || len(a.FailOn) != 1 ||
		a.FailOn[0].To != 409 {
		t.Errorf("steps %+v, %+v", a, b)
	}
}

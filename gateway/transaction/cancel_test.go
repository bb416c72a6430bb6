package transaction

import (
	"errors"
	"testing"

	"github.com/sluice-gateway/sluice/filters"
)

// A saga is cancelled by a step that was not called yet, and not when there is none.
func TestCancelSaga(t *testing.T) {
	d := newFixture(t)
	n := 0
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		n++
		return 200, "", filters.Completed
	}
	g := gid('a')
	payload := []byte(`{"route":"checkout","do":{"service":"a","method":"POST","path":"/"}}`)
	if err := d.Cancel(t.Context(), g); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	d.delegate(t, g)
	if err := d.Cancel(t.Context(), g); !errors.Is(err, ErrNotKnown) {
		t.Errorf("one that the coordinator does not know: %v", err)
	}
	d.setState(g, "submitted", "reserve:succeed:prepared", "pay:prepared:prepared")
	for range 2 { // again is the same
		if err := d.Cancel(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.branch(t, d.url(t, g, opDo, payload), "action", payload); got != 409 || n != 0 {
		t.Errorf("the step after the cancel: %d, %d calls", got, n)
	}
	d.setState(g, "aborting", "reserve:succeed:prepared", "pay:failed:prepared")
	undo := []byte(`{"undo":{"service":"a","method":"POST","path":"/"}}`)
	if got := d.branch(t, d.url(t, g, opUndo, undo), "compensate", undo); got != 200 || n != 0 {
		t.Errorf("its undo: %d, %d calls", got, n)
	}
	if err := d.Cancel(t.Context(), g); !errors.Is(err, ErrRollsBack) {
		t.Errorf("while it is rolled back: %v", err)
	}

	called := gid('b')
	d.delegate(t, called)
	d.setState(called, "submitted", "pay:prepared:prepared")
	if got := d.branch(t, d.url(t, called, opDo, payload), "action", payload); got != 200 {
		t.Fatalf("the step: %d", got)
	}
	if err := d.Cancel(t.Context(), called); !errors.Is(err, ErrAllCalled) {
		t.Errorf("with all steps called: %v", err)
	}
	d.setState(called, "succeed", "pay:succeed:prepared")
	if err := d.Cancel(t.Context(), called); !errors.Is(err, ErrEnded) {
		t.Errorf("one that has ended: %v", err)
	}
}

// A message is cancelled by any gateway before its primary is called, and not after that.
func TestCancelMessage(t *testing.T) {
	inBubble(t, messageSettings(true), func(t *testing.T, s *scene) {
		begin := func(letter byte) (*manager, string) {
			g := gid(letter)
			s.delegate(t, g)
			x := new(filters.Exchange)
			x.Begin(t.Context(), nil)
			x.Route, x.Principal, x.Logical.GID = "checkout", "ann", g
			ready, err := messageMode{}.render(t.Context(), NewExecutor(s.Bridge, *s.own), x)
			if err != nil {
				t.Fatal(err)
			}
			m := ready.(*manager)
			m.steps = make([]phaseStep, 1)
			if err := m.prepare(t.Context(), s.Bridge); err != nil {
				t.Fatal(err)
			}
			return m, g
		}
		m, g := begin('d')
		if err := s.Cancel(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		if state := s.dtm.known[g].Status; state != "failed" {
			t.Errorf("cancelled, and %s", state)
		}
		if p, _ := m.callStep(t.Context(), s.Bridge, 0); p != refused || s.calls() != "" {
			t.Errorf("its primary then: %v; calls %s", p, s.calls())
		}
		m, g = begin('e')
		if p, _ := m.callStep(t.Context(), s.Bridge, 0); p != done {
			t.Fatal(p)
		}
		s.wait(t)
		if err := s.Cancel(t.Context(), g); !errors.Is(err, ErrPrimary) {
			t.Errorf("after its primary: %v", err)
		}
	})
}

package dtmembedded

import (
	"errors"
	"testing"
	"time"

	"github.com/dtm-labs/dtm/dtmsvr/storage"
)

// TestLateDelivery: the answer to a delivery of a concurrent message comes when the message has ended. DTM takes it
// in a goroutine that recovers from nothing, so the store has to leave it at that. All others have to be stopped by a
// panic.
func TestLateDelivery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, transType, options string
		stops                    bool
	}{
		{"concurrent message", "msg", `{"concurrent":true}`, false},
		{"message", "msg", "", true},
		{"concurrent saga", "saga", `{"concurrent":true}`, true},
	} {
		s, err := Open(t.TempDir(), Options{Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		now := time.Now()
		g, branches := saga("g", now)
		g.TransType, g.Options = c.transType, c.options
		if err := s.MaySaveNewTrans(g, branches); err != nil {
			t.Fatal(err)
		}
		stale := s.FindTransGlobalStore("g")
		s.end(t, "g", statusSucceeded, now)
		branches[1].Status = "succeed"
		for what, err := range map[string]error{
			"branch": tried(func() { s.LockGlobalSaveBranches("g", "submitted", branches[1:2], 1) }),
			"time":   tried(func() { s.TouchCronTime(stale, 10, &now) }),
		} {
			if errors.Is(err, storage.ErrNotFound) != c.stops {
				t.Errorf("%s, %s: %v", c.name, what, err)
			}
		}
		if got := s.FindTransGlobalStore("g").Status; got != statusSucceeded {
			t.Errorf("%s: status %s", c.name, got)
		}
	}
}

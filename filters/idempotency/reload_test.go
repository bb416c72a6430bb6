package idempotency_test

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// TestSettingsThatDoNotNameARequest: a key that was answered is replayed after a reload that changes
// anything but what makes a request another one.
func TestSettingsThatDoNotNameARequest(t *testing.T) {
	changes := map[string]func(s *idempotency.Settings){
		"maxOpenKeys from 0": func(s *idempotency.Settings) { s.MaxOpenKeys = 5 },
		"required":           func(s *idempotency.Settings) { s.Required = true },
		"ttl":                func(s *idempotency.Settings) { s.TTL = time.Minute },
		"lease, maxInFlight": func(s *idempotency.Settings) { s.Lease, s.MaxInFlight = time.Second, 2*time.Second },
		"whileInFlight":      func(s *idempotency.Settings) { s.Wait = 0 },
		"notExecuted": func(s *idempotency.Settings) {
			s.NotExecuted = []idempotency.StatusRange{{From: 418, To: 418}}
		},
		"maxBody, omitHeaders": func(s *idempotency.Settings) { s.MaxBody, s.OmitHeaders = 1, []string{"X-A"} },
		"onUnknown":            func(s *idempotency.Settings) { s.Retry = true },
		"onStoreFailure":       func(s *idempotency.Settings) { s.FailOpen = true },
	}
	for name, change := range changes {
		for _, back := range []bool{false, true} {
			before, after := defaults(), defaults()
			change(&after)
			if back {
				before, after = after, before
			}
			b := newBench(t, before)
			before.MaxOpenKeys = 0
			first := b.do(request("k", "{}"), created)
			id, ok := before.IDOf("create-order", "ann", "k")
			if same, ok2 := after.IDOf("create-order", "ann", "k"); !ok || !ok2 || id != same ||
				first.inject.Get("Idempotency-Key") != id {
				t.Errorf("%s, back: %v: the name went from %s to %s", name, back, id, same)
			}
			again := benchOn(t, after, b.store).do(request("k", "{}"), created)
			if again.ran || again.reason == filters.KeyReused {
				t.Errorf("%s, back: %v: the key was executed again: %+v", name, back, again)
			}
		}
	}
}

// TestScopeNamesARequest: what a scope says makes requests different is different.
func TestScopeNamesARequest(t *testing.T) {
	wider := defaults()
	wider.Scope = append(wider.Scope, ref.Ref{Root: ref.Method})
	b := newBench(t, defaults())
	b.want("the first", b.do(request("k", "{}"), created), 201, "", true)
	b.want("under another scope", benchOn(t, wider, b.store).do(request("k", "{}"), created), 201, "", true)
}

package gateway

import (
	"reflect"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
)

// warnOfOutstandingKeys says at a reload what became of the idempotency keys that clients still
// repeat. A key is named by its scope and its principal, so a change of those is carried out as it
// is written, and a repeat of a request that was made before counts as a new one: it is executed
// again. Only whoever changed it can tell whether that matters.
func (g *gateway) warnOfOutstandingKeys(old, cfg *config.Config) {
	identity := !reflect.DeepEqual(old.Identity, cfg.Identity)
	before := map[string]*config.Idempotency{}
	for _, r := range old.Routes {
		before[r.Name] = r.Idempotency
	}
	for _, r := range cfg.Routes {
		was, now := before[r.Name], r.Idempotency
		if was == nil || now == nil {
			continue
		}
		for _, change := range []struct {
			setting string
			differs bool
		}{
			{"identity", identity},
			{"scope", !reflect.DeepEqual(was.Scope, now.Scope)},
			{"key", !reflect.DeepEqual(was.Key, now.Key)},
			{"fingerprint", !reflect.DeepEqual(was.Fingerprint, now.Fingerprint)},
		} {
			if change.differs {
				g.Logger.Warn("a reload changes what idempotency keys mean that clients hold already",
					"route", r.Name, "setting", change.setting, "until_expired", plan.OutstandingKeys[change.setting])
			}
		}
	}
}

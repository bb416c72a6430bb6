package policy

import (
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/weighted"
)

// weightsPolicy leads the requests of a route to one of several services.
type weightsPolicy struct{}

func newWeights(*Env) Policy { return weightsPolicy{} }

func (weightsPolicy) Name() string { return "weights" }

func (weightsPolicy) Applies(s Scope) bool { return len(s.Ends) > 0 }

func (weightsPolicy) Filter(_ *Build, s Scope) (filters.Filter, error) {
	return weightsOf(s.Route), nil
}

func weightsOf(r *config.Route) *weighted.Filter {
	var list []weighted.Choice
	for _, name := range r.Service.Names() {
		list = append(list, weighted.Choice{Service: name, Weight: r.Service.Weights[name]})
	}
	return weighted.NewFilter(list)
}

func (weightsPolicy) Explain(e *Explainer, s Scope) bool {
	total, words := s.Route.Service.Total(), []string(nil)
	for _, name := range s.Route.Service.Names() {
		w := s.Route.Service.Weights[name]
		words = append(words, fmt.Sprintf("%s %d of %d", name, w, total))
	}
	e.Line("weights", "%s", strings.Join(words, ", "))
	service, by := weightsOf(s.Route).Choose(e.Exchange)
	switch by {
	case "principal":
		e.Line("", "principal %q goes to %s; a key stays with the service of its first dispatch", e.Exchange.Principal,
			service)
	case "client.ip":
		e.Line("", "without a principal client.ip %s goes to %s", e.Exchange.Client, service)
	default:
		e.Line("", "neither principal nor client.ip is known: chosen anew for each request, here %s", service)
	}
	e.Service = service
	return true
}

func (weightsPolicy) Status() Status { return Status{} }

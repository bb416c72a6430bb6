package gateway

import (
	"context"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyembedded"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/envoy/ratelimitservice"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Metrics returns all metrics that a gateway publishes with one configuration or another, by their names.
func Metrics() []metric.Definition {
	env := &policy.Env{Metrics: policy.NewMetrics()}
	m := newMetrics(env.Metrics)
	newProcess(env, nil, m, nil, context.Background())
	m.publishBudget(budget.New(budget.Limits{}), descriptors{})
	m.publishConnections(nil)
	m.publishCuts(new(message.Cuts))
	m.publishProcess("", nil)
	m.registry.Add(new(census))
	m.registry.Add(&transactionsNow{})
	m.registry.Add(newEmbeddedMetrics(func() idempotencyembedded.Stats { return idempotencyembedded.Stats{} }))
	m.registry.Add(new(source.Control))
	m.registry.Add(new(discovery.Watcher))
	ratelimitservice.New(nil, env.Metrics)
	return m.registry.List()
}

// labels returns which routes, services, limits and sales a configuration has, by the labels of the metrics that count
// for them.
func (e *engine) labels() map[string]map[string]bool {
	routes, services, limits, sales := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, rt := range e.routes {
		routes[rt.name] = true
	}
	for _, rt := range e.branches {
		routes[rt.name] = true
	}
	for name := range e.cfg.Services {
		services[name] = true
	}
	limits[policy.OverrideLabel(config.EnvoyDomain)] = true
	for name, c := range e.cfg.Limits {
		limits[name] = true
		if c.Descriptor != nil {
			limits[policy.OverrideLabel(c.Descriptor.Domain)] = true
		}
	}
	for name := range e.cfg.Sales {
		sales[name] = true
	}
	return map[string]map[string]bool{"route": routes, "service": services, "limit": limits, "sale": sales}
}

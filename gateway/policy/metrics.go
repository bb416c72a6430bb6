package policy

import "github.com/sluice-gateway/sluice/gateway/metric"

// Metrics registers what a process counts. Children are looked up when a chain is built, never for each request.
type Metrics = metric.Registry

// NewMetrics returns an empty registry.
func NewMetrics() *Metrics { return metric.New() }

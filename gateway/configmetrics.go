package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// configMetrics says which configuration is in force, how the last ones fared and when what they refer to ends.
type configMetrics struct {
	*metric.Reloads
	expiry *prometheus.GaugeVec // setting
}

func newConfigMetrics(r *policy.Metrics) *configMetrics {
	return &configMetrics{
		Reloads: metric.NewReloads(r),
		expiry: r.Gauge("certificate_expiry_timestamp_seconds", "When a certificate in force ends, in seconds of Unix "+
			"time, by the setting that names its file: of a chain the first one to end, of authorities the last one.",
			"setting"),
	}
}

// inForce says which configuration is, and which certificates it refers to.
func (m *configMetrics) inForce(cfg *config.Config, certificates []certificate, at time.Time) {
	m.InForce(cfg.Hash(), at)
	m.expiry.Reset()
	for _, c := range certificates {
		m.expiry.WithLabelValues(c.setting).Set(metric.Seconds(c.ends))
	}
}

// publishProcess publishes what program this is, and whether it is ready.
func (m *metrics) publishProcess(build string, unready func() string) {
	m.registry.FuncBy(metric.Gauge, "build_info", "1 for the version of the program.", "version", []string{build},
		func(int) float64 { return 1 })
	m.registry.Func(metric.Gauge, "ready", "1 while the gateway is ready (/readyz), 0 while it is not: /api/status "+
		"says why.", func() float64 {
		if unready() != "" {
			return 0
		}
		return 1
	})
}

package metric

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Reloads says which configuration a process has in force and how the last ones fared. It is safe for concurrent use.
type Reloads struct {
	results                    *CounterVec          // result
	info                       *prometheus.GaugeVec // version
	successful, applied, tried prometheus.Gauge
}

// NewReloads registers the metrics of a process's configuration.
func NewReloads(r *Registry) *Reloads {
	m := &Reloads{
		results: r.Counter("config_reloads_total", "Configurations that were given to the running process by result: "+
			"applied, refused (the one before stays in force).", "result"),
		info: r.Gauge("config_info", "1 for the version of the configuration in force.", "version"),
		successful: r.Gauge("config_last_reload_successful", "1 while the configuration in force is the newest that "+
			"was given, 0 while a newer one has been refused.").WithLabelValues(),
		applied: r.Gauge("config_last_applied_timestamp_seconds", "When the configuration in force was applied, in "+
			"seconds of Unix time.").WithLabelValues(),
		tried: r.Gauge("config_last_reload_timestamp_seconds", "When the newest configuration was given, whether it "+
			"was applied or refused, in seconds of Unix time.").WithLabelValues(),
	}
	for _, result := range []string{"applied", "refused"} {
		m.results.WithLabelValues(result)
	}
	return m
}

// InForce says that a configuration is in force. It counts nothing, so it serves for the first one too.
func (m *Reloads) InForce(version string, at time.Time) {
	m.info.Reset()
	m.info.WithLabelValues(version).Set(1)
	m.successful.Set(1)
	m.applied.Set(Seconds(at))
	m.tried.Set(Seconds(at))
}

// Applied counts a configuration that was put in force.
func (m *Reloads) Applied() { m.results.WithLabelValues("applied").Inc() }

// Refused counts a configuration that was refused.
func (m *Reloads) Refused(at time.Time) {
	m.results.WithLabelValues("refused").Inc()
	m.successful.Set(0)
	m.tried.Set(Seconds(at))
}

// Seconds is a moment as metrics have it: seconds of Unix time.
func Seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyembedded"
)

// embeddedMetrics publishes the figures of an embedded store, read once a scrape.
type embeddedMetrics struct {
	stats func() idempotencyembedded.Stats
	list  []embeddedMetric
}

type embeddedMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*idempotencyembedded.Stats) float64
}

func newEmbeddedMetrics(stats func() idempotencyembedded.Stats) *embeddedMetrics {
	m := &embeddedMetrics{stats: stats}
	type figures = *idempotencyembedded.Stats
	add := func(kind prometheus.ValueType, name, help string, value func(figures) float64) {
		desc := prometheus.NewDesc("sluice_store_"+name, help, nil, nil)
		m.list = append(m.list, embeddedMetric{desc, kind, value})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "records", "Records, expired ones that were not swept yet among them.",
		func(s figures) float64 { return float64(s.Records) })
	add(gauge, "records_in_flight", "Records whose request runs, or that are being written.",
		func(s figures) float64 { return float64(s.InFlight) })
	add(gauge, "segments", "Files of the log.", func(s figures) float64 { return float64(s.Segments) })
	add(gauge, "disk_bytes", "Bytes of the log.", func(s figures) float64 { return float64(s.DiskBytes) })
	add(gauge, "live_bytes", "Bytes of the log that are still referred to.",
		func(s figures) float64 { return float64(s.LiveBytes) })
	add(counter, "syncs_total", "Writes with one fsync each.", func(s figures) float64 { return float64(s.Batches) })
	add(counter, "steps_total", "Steps that shared them.", func(s figures) float64 { return float64(s.Entries) })
	add(counter, "copied_bytes_total", "Bytes copied by compaction.",
		func(s figures) float64 { return float64(s.CopiedBytes) })
	add(counter, "outages_total", "How often the disk did not take a write and the store refused all steps for a time.",
		func(s figures) float64 { return float64(s.Failures) })
	add(counter, "timeouts_total", "Writes that the disk did not take in time.",
		func(s figures) float64 { return float64(s.Timeouts) })
	add(counter, "damaged_reads_total", "Reads of records that were not as they had been written.",
		func(s figures) float64 { return float64(s.BadReads) })
	add(gauge, "damaged_bytes", "Bytes of the log that were found damaged when it was opened.",
		func(s figures) float64 { return float64(s.DamagedBytes) })
	add(gauge, "torn_bytes", "Bytes at the end of the log that a crash left half written, of steps that nobody was "+
		"told of.",
		func(s figures) float64 { return float64(s.TornBytes) })
	return m
}

// Describe implements [prometheus.Collector].
func (m *embeddedMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, e := range m.list {
		to <- e.desc
	}
}

// Collect implements [prometheus.Collector].
func (m *embeddedMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.stats()
	for _, e := range m.list {
		to <- prometheus.MustNewConstMetric(e.desc, e.kind, e.value(&s))
	}
}

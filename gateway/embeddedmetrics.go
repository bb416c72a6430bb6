package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyembedded"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// embeddedMetrics publishes the figures of an embedded store, read once a scrape.
type embeddedMetrics struct {
	stats func() idempotencyembedded.Stats
	list  []embeddedMetric
}

type embeddedMetric struct {
	desc  *metric.Desc
	value func(*idempotencyembedded.Stats) float64
}

func newEmbeddedMetrics(stats func() idempotencyembedded.Stats) *embeddedMetrics {
	m := &embeddedMetrics{stats: stats}
	type figures = *idempotencyembedded.Stats
	add := func(kind metric.Kind, name, help string, value func(figures) float64) {
		m.list = append(m.list, embeddedMetric{metric.NewDesc(kind, "store_"+name, help), value})
	}
	const gauge, counter = metric.Gauge, metric.Counter
	add(gauge, "records", "Records of keys in the embedded store, expired ones that were not swept yet among them.",
		func(s figures) float64 { return float64(s.Records) })
	add(gauge, "records_in_flight", "Records in the embedded store whose request runs, or that are being written.",
		func(s figures) float64 { return float64(s.InFlight) })
	add(gauge, "segments", "Files of the embedded store's log.", func(s figures) float64 { return float64(s.Segments) })
	add(gauge, "disk_bytes", "Bytes that the embedded store's log has on disk.",
		func(s figures) float64 { return float64(s.DiskBytes) })
	add(gauge, "live_bytes", "Bytes of the embedded store's log that are still referred to; compaction frees the "+
		"others.",
		func(s figures) float64 { return float64(s.LiveBytes) })
	add(counter, "syncs_total", "Writes of the embedded store, each with one fsync.",
		func(s figures) float64 { return float64(s.Batches) })
	add(counter, "steps_total", "Steps of records that the embedded store has written; several share one write "+
		"(sluice_store_syncs_total).", func(s figures) float64 { return float64(s.Entries) })
	add(counter, "copied_bytes_total", "Bytes that compaction of the embedded store has copied.",
		func(s figures) float64 { return float64(s.CopiedBytes) })
	add(counter, "outages_total", "How often the disk of the embedded store did not take a write and the store "+
		"refused all steps for a time.",
		func(s figures) float64 { return float64(s.Failures) })
	add(counter, "timeouts_total", "Writes that the disk of the embedded store did not take in time "+
		"(store.embedded.timeout).",
		func(s figures) float64 { return float64(s.Timeouts) })
	add(counter, "damaged_reads_total", "Reads of records from the embedded store that were not as they had been "+
		"written.",
		func(s figures) float64 { return float64(s.BadReads) })
	add(gauge, "damaged_bytes", "Bytes of the embedded store's log that were found damaged when it was opened.",
		func(s figures) float64 { return float64(s.DamagedBytes) })
	add(gauge, "torn_bytes", "Bytes at the end of the embedded store's log that a crash left half written, of steps "+
		"that nobody was told of.",
		func(s figures) float64 { return float64(s.TornBytes) })
	return m
}

// Descs implements [metric.Collector].
func (m *embeddedMetrics) Descs() (descs []*metric.Desc) {
	for _, e := range m.list {
		descs = append(descs, e.desc)
	}
	return descs
}

// Collect implements [metric.Collector].
func (m *embeddedMetrics) Collect(to chan<- prometheus.Metric) {
	s := m.stats()
	for _, e := range m.list {
		to <- e.desc.Value(e.value(&s))
	}
}

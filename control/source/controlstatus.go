package source

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/control/source/adsclient"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

// ControlStatus is where the configuration of a gateway of a fleet comes from.
type ControlStatus struct {
	Node      string     `json:"node"`
	Servers   []string   `json:"servers"`
	Connected string     `json:"connected"`       // the control plane; empty: none
	Since     time.Time  `json:"since"`           // it is connected, or none is
	Fault     string     `json:"fault,omitempty"` // why the last connection failed
	Origin    string     `json:"origin"`          // control-plane, last-good or none
	Version   string     `json:"version"`         // of the document in force, as the control plane shows it
	From      string     `json:"from"`            // the control plane that it came from
	Applied   time.Time  `json:"applied"`
	Age       int        `json:"age_seconds"` // since it was first put in force, here or before a restart
	Nacks     int        `json:"nacks"`
	LastNack  *NackShown `json:"last_nack,omitempty"`
	// LastContact is when a control plane was connected to last; zero: never.
	LastContact time.Time `json:"last_contact,omitzero"`
	Kept        string    `json:"kept"`                 // the version that this process has written to disk
	KeepFault   string    `json:"keep_fault,omitempty"` // why the disk does not have what it should
}

// NackShown is what was refused last.
type NackShown struct {
	Control string    `json:"control"`
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// The origins of a configuration.
const (
	OriginNone     = "none"
	OriginControl  = "control-plane"
	OriginLastGood = "last-good"
)

// report is what is shown of a [Control], from any goroutine.
type report struct {
	mu      sync.Mutex
	client  *adsclient.Client // nil before First
	disk    *keeper
	started time.Time
	status  ControlStatus
	saved   time.Time
	applies int
}

func (r *report) begin(client *adsclient.Client, disk *keeper, servers []string, node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client, r.disk, r.started = client, disk, time.Now()
	r.status = ControlStatus{Node: node, Servers: servers, Origin: OriginNone}
}

func (r *report) applied(c *candidate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applies++
	r.saved = c.Saved
	r.status.Version, r.status.From, r.status.Applied = c.Version, c.Server, time.Now().UTC().Truncate(time.Second)
	if r.status.Origin = OriginControl; c.update == nil {
		r.status.Origin = OriginLastGood
	}
}

// Status returns how the gateway stands with its control planes. It is safe for concurrent use.
func (c *Control) Status() *ControlStatus {
	c.report.mu.Lock()
	defer c.report.mu.Unlock()
	s := c.report.status
	if c.report.client == nil {
		return &ControlStatus{Node: c.Node, Servers: c.Servers, Origin: OriginNone}
	}
	if !c.report.saved.IsZero() {
		s.Age = int(time.Since(c.report.saved).Seconds())
	}
	at := c.report.client.State()
	s.Connected, s.Fault, s.Nacks = at.Server, at.Fault, at.Nacks
	s.Since, s.LastContact = at.Since.UTC().Truncate(time.Second), at.LastContact.UTC().Truncate(time.Second)
	if n := at.LastNack; n != nil {
		s.LastNack = &NackShown{n.Server, n.Version, n.Reason, n.At.UTC().Truncate(time.Second)}
	}
	s.Kept, s.KeepFault, _ = c.report.disk.state()
	return &s
}

var (
	descConnected = metric.NewDesc(metric.Gauge, "control_connected",
		"1 for the control plane that the gateway is connected to, 0 for the others of its list.", "control")
	descInfo = metric.NewDesc(metric.Gauge, "control_config_info",
		"1 for the version of the control plane's configuration that the gateway has in force and for where it came "+
			"from: control-plane, last-good (from disk, after a start without one), none.", "version", "origin")
	descApplied = metric.NewDesc(metric.Counter, "control_versions_total",
		"Configurations of a control plane that the gateway has put in force.")
	descNacks = metric.NewDesc(metric.Counter, "control_nacks_total",
		"Configurations of a control plane that the gateway has refused (NACK).")
	descConnects = metric.NewDesc(metric.Counter, "control_connects_total",
		"Streams to control planes that came about.")
	descContact = metric.NewDesc(metric.Gauge, "control_last_contact_seconds",
		"Seconds since the gateway was connected to a control plane; 0 while it is to one.")
	descDisk = metric.NewDesc(metric.Counter, "control_keep_failures_total",
		"Failures to read or write the last good configuration on disk, which the next start without a control plane "+
			"needs.")
)

// Descs implements [metric.Collector].
func (c *Control) Descs() []*metric.Desc {
	return []*metric.Desc{descConnected, descInfo, descApplied, descNacks, descConnects, descContact, descDisk}
}

// Collect implements [metric.Collector].
func (c *Control) Collect(to chan<- prometheus.Metric) {
	c.report.mu.Lock()
	client, disk, status, applies, started := c.report.client, c.report.disk, c.report.status, c.report.applies,
		c.report.started
	c.report.mu.Unlock()
	if client == nil {
		return
	}
	at := client.State()
	gauge := func(d *metric.Desc, v float64, labels ...string) { to <- d.Value(v, labels...) }
	counter := func(d *metric.Desc, v int) { to <- d.Value(float64(v)) }
	for _, server := range status.Servers {
		connected := 0.0
		if server == at.Server {
			connected = 1
		}
		gauge(descConnected, connected, server)
	}
	gauge(descInfo, 1, status.Version, status.Origin)
	since := 0.0
	switch {
	case at.Server != "":
	case at.LastContact.IsZero():
		since = time.Since(started).Seconds()
	default:
		since = time.Since(at.LastContact).Seconds()
	}
	gauge(descContact, since)
	counter(descApplied, applies)
	counter(descNacks, at.Nacks)
	counter(descConnects, at.Connects)
	_, _, faults := disk.state()
	counter(descDisk, faults)
}

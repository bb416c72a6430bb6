package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func newStatus() *cobra.Command {
	client := new(adminclient.Client)
	output := new(string)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print how a running gateway stands",
		Long: "Print how a running gateway stands: its configuration, store, services and breakers, limits,\n" +
			"transactions, and what waits for somebody.",
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(*output); err != nil {
				return err
			}
			body, err := client.Status(cmd.Context())
			if err != nil || *output == "json" {
				return printResponse(cmd, body, err)
			}
			s, policies, err := admin.ParseStatus(body)
			if err != nil {
				return fmt.Errorf("the response of the gateway: %w", err)
			}
			if s.Since.IsZero() {
				return fmt.Errorf("what %s says is no status of a gateway; it is asked at admin.address "+
					"of the configuration", client.Address)
			}
			p := &statusPrinter{w: cmd.OutOrStdout(), status: &s, policies: policies, now: time.Now()}
			return p.print()
		}),
	}
	addAdminFlags(cmd, client)
	addOutputFlag(cmd, output)
	return cmd
}

// statusPrinter prints a status for people. Parts that the gateway has not are left out.
type statusPrinter struct {
	w        io.Writer
	status   *admin.Status
	policies map[string]json.RawMessage
	now      time.Time
	err      error // the first one of writing
}

func (p *statusPrinter) print() error {
	for _, part := range []func(){
		p.process, p.configuration, p.store, p.resources, p.services, p.breakers, p.overloads, p.limits, p.transactions,
		p.certificates, p.fleet,
	} {
		part()
	}
	return p.err
}

// line writes a line of the summary. What comes from the gateway is made visible.
func (p *statusPrinter) line(what, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-15s %s\n", what, visible(fmt.Sprintf(format, args...)))
	}
}

// table writes rows under a heading, behind an empty line; nothing without rows.
func (p *statusPrinter) table(rows [][]string, columns ...string) {
	if p.err != nil || len(rows) == 0 {
		return
	}
	if _, p.err = fmt.Fprintln(p.w); p.err == nil {
		p.err = newTable(p.w, columns...).write(rows)
	}
}

func (p *statusPrinter) process() {
	s := p.status
	ready := "ready"
	if !s.Ready {
		ready = "not ready: " + s.Reason
	}
	p.line("gateway", "%s, %s, up for %s", s.Build, ready, p.since(s.Since))
	var at []string
	for _, a := range [][2]string{
		{"http", s.Addresses.HTTP}, {"https", s.Addresses.HTTPS}, {"admin", s.Addresses.Admin},
		{"probes", s.Addresses.Probes}, {"branches", s.Addresses.Branches}, {"envoy", s.Addresses.Envoy},
	} {
		if a[1] != "" {
			at = append(at, a[0]+" "+a[1])
		}
	}
	p.line("addresses", "%s", strings.Join(at, ", "))
}

func (p *statusPrinter) configuration() {
	c := p.status.Configuration
	p.line("configuration", "%s, in force for %s", c.Version, p.since(c.Loaded))
	switch {
	case c.Fault != "" && c.Refused != nil:
		p.line("", "a newer one was refused %s ago: %s", p.since(c.Refused.At), c.Fault)
	case c.Fault != "":
		p.line("", "a newer one was refused: %s", c.Fault)
	case c.Refused != nil:
		p.line("", "refused %s ago, before this one: %s", p.since(c.Refused.At), c.Refused.Fault)
	}
}

func (p *statusPrinter) store() {
	s := p.status.Store
	state := s.State
	if s.Fault != "" {
		state = fmt.Sprintf("%s for %s: %s", s.State, p.since(s.Since), s.Fault)
	}
	p.line("store", "%s, %s", s.Kind, state)
	if k := s.Keys; k != nil {
		waits := ""
		if !k.UnknownSince.IsZero() {
			waits = ", the oldest for " + p.since(k.UnknownSince) + " (sluice keys get --state unknown)"
		}
		p.line("keys", "%d open, %d of unknown outcome%s", k.Open, k.Unknown, waits)
	}
}

func (p *statusPrinter) resources() {
	r := p.status.Resources
	var rows [][]string
	for _, one := range []struct {
		name string
		of   admin.ResourceStatus
	}{
		{"requests in flight", r.RequestsInFlight}, {"buffered bytes", r.BufferedBytes},
		{"connections of clients", r.ClientConnections}, {"connections to services", r.UpstreamConnections},
	} {
		if one.of.Max == 0 {
			continue
		}
		rows = append(rows, []string{one.name, fmt.Sprint(one.of.Used), fmt.Sprint(one.of.Max),
			fmt.Sprintf("%d%%", 100*one.of.Used/one.of.Max), fmt.Sprint(one.of.Refused)})
	}
	p.table(rows, "RESOURCE", "USED", "MAX", "SHARE", "REFUSED")
}

func (p *statusPrinter) services() {
	var rows [][]string
	for _, s := range p.status.Services {
		for _, e := range s.Endpoints {
			state := e.State
			if e.EjectedFor > 0 {
				state += " for " + e.EjectedFor.String()
			}
			rows = append(rows, []string{s.Name, e.Endpoint, e.Address, state, fmt.Sprint(e.InUse),
				fmt.Sprint(e.Connections)})
		}
		if len(s.Endpoints) == 0 {
			rows = append(rows, []string{s.Name, "no endpoint", "", "", "", ""})
		}
	}
	p.table(rows, "SERVICE", "ENDPOINT", "ADDRESS", "STATE", "REQUESTS", "IDLE")
}

// breakers prints those of services and that of the coordinator.
func (p *statusPrinter) breakers() {
	var rows [][]string
	var all policy.Breakers
	if p.member("breakers", &all) {
		for _, service := range slices.Sorted(maps.Keys(all)) {
			b := all[service]
			by := "itself"
			if b.Forced {
				by = "an operator"
			}
			rows = append(rows, []string{service, b.State, by, fmt.Sprintf("%d of %d calls, %d slow", b.Errors, b.Calls,
				b.Slow)})
		}
	}
	if c := p.status.Coordinator; c != nil {
		rows = append(rows, []string{"(coordinator)", c.State, "itself", c.Fault})
	}
	p.table(rows, "BREAKER", "STATE", "DECIDED BY", "ERRORS")
}

// overloads prints what services work on, by their limiters.
func (p *statusPrinter) overloads() {
	var all policy.Overloads
	if !p.member("overload", &all) {
		return
	}
	var rows [][]string
	for _, service := range slices.Sorted(maps.Keys(all)) {
		o := all[service]
		queued, shed := 0, 0
		for _, n := range o.Queued {
			queued += n
		}
		for _, causes := range o.Shed {
			for _, n := range causes {
				shed += n
			}
		}
		rows = append(rows, []string{service, fmt.Sprint(o.InFlight), fmt.Sprint(o.Limit), fmt.Sprint(queued),
			fmt.Sprint(shed), fmt.Sprintf("%.1f ms", o.LatencyMS)})
	}
	p.table(rows, "OVERLOAD", "IN FLIGHT", "LIMIT", "QUEUED", "SHED", "LATENCY")
}

// member decodes the member of a policy; false without it. One of another version is left out.
func (p *statusPrinter) member(name string, to any) bool {
	return json.Unmarshal(p.policies[name], to) == nil
}

func (p *statusPrinter) limits() {
	var rows [][]string
	for _, l := range p.status.Limits {
		rows = append(rows, []string{l.Name, l.Rate, l.Scope, l.Mode, fmt.Sprint(l.Allowed),
			fmt.Sprint(l.Refused + l.ShadowRefused), fmt.Sprint(l.StoreFailures)})
	}
	p.table(rows, "LIMIT", "RATE", "SCOPE", "MODE", "ALLOWED", "REFUSED", "STORE FAILURES")
}

func (p *statusPrinter) transactions() {
	t := p.status.Transactions
	if t == nil {
		return
	}
	p.table([][]string{{fmt.Sprint(t.Pending), fmt.Sprint(t.Unknown), fmt.Sprint(t.Untold), fmt.Sprint(len(t.Stuck))}},
		"TRANSACTIONS PENDING", "UNKNOWN", "NOT TOLD", "STUCK")
	var rows [][]string
	for _, s := range t.Stuck {
		rows = append(rows, []string{s.ID, s.Transaction, s.Step, s.Op, p.since(s.Since), fmt.Sprint(s.Attempts),
			fmt.Sprint(s.Status)})
	}
	p.table(rows, "STUCK", "TRANSACTION", "STEP", "CALL", "FOR", "ATTEMPTS", "STATUS")
}

func (p *statusPrinter) certificates() {
	var rows [][]string
	for _, c := range p.status.Certificates {
		left := "ended"
		if d := c.Ends.Sub(p.now); d > 0 {
			left = "ends in " + roughly(d)
		}
		rows = append(rows, []string{c.Setting, left, c.Ends.Format(time.RFC3339)})
	}
	p.table(rows, "CERTIFICATE", "", "ENDS")
}

func (p *statusPrinter) fleet() {
	var rows [][]string
	for _, name := range p.status.Store.Members {
		rows = append(rows, []string{name})
	}
	p.table(rows, "GATEWAYS OF THE STORE")
	if c := p.status.Control; c != nil {
		connected := c.Connected
		if connected == "" {
			connected = "none: " + c.Fault
		}
		p.table([][]string{{c.Node, connected, c.Origin, c.Version, fmt.Sprint(c.Nacks)}}, "NODE", "CONTROL PLANE",
			"CONFIGURATION FROM", "VERSION", "REFUSED")
	}
}

// since says how long ago a moment was.
func (p *statusPrinter) since(t time.Time) string { return roughly(p.now.Sub(t)) }

// roughly writes a time in its two largest units, for people.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

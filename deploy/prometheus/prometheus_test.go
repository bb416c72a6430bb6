// Package prometheus is alert rules; its tests hold them, the dashboard of Grafana and docs/metrics.md against the
// list of metrics that gateways and control planes publish.
package prometheus

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-gateway/sluice/control/xds"
	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/metric"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// promtool runs the tool of Prometheus (Debian's package prometheus, see deploy/testdeps.sh).
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules: the rules are sound, each alert fires for what it is about, and none is untested.
func TestRules(t *testing.T) {
	promtool(t, "", "check", "rules", "alerts.yaml")
	promtool(t, "", "test", "rules", "alerts_test.yaml")
	tests := read(t, "alerts_test.yaml")
	for _, name := range alerts(t) {
		if strings.Count(tests, fmt.Sprintf("ALERTS{alertname=%q", name)) < 3 {
			t.Errorf("alerts_test.yaml has no test in which %s fires, and one in which it is silent", name)
		}
	}
}

func alerts(t *testing.T) (names []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, "alerts.yaml"), -1) {
		names = append(names, m[1])
	}
	if len(names) < 30 {
		t.Fatalf("%d alerts were found", len(names))
	}
	return names
}

// TestRunbooks: each alert leads to its own page of docs/operating.md.
func TestRunbooks(t *testing.T) {
	rules, operating := read(t, "alerts.yaml"), read(t, "../../docs/operating.md")
	const page = "https://github.com/sluice-gateway/sluice/blob/main/docs/operating.md#"
	for _, name := range alerts(t) {
		if !strings.Contains(rules, "runbook_url: "+page+strings.ToLower(name)+"\n") {
			t.Errorf("the runbook of %s is not %s%s", name, page, strings.ToLower(name))
		}
		if !strings.Contains(operating, "\n### "+name+"\n") {
			t.Errorf("docs/operating.md says nothing of %s", name)
		}
	}
}

// published are the metrics of gateways and of control planes.
func published() []metric.Definition { return append(gateway.Metrics(), xds.Metrics()...) }

// TestNames: what rules and dashboard ask for is published, with the labels that they ask by; and what prose speaks of.
func TestNames(t *testing.T) {
	known := map[string]metric.Definition{}
	for _, d := range published() {
		known[d.Name] = d
		if d.Kind == metric.Histogram {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				known[d.Name+part] = d
			}
		}
	}
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "../grafana/sluice.json"} {
		names := regexp.MustCompile(`sluice_[a-z0-9_]+`).FindAllString(read(t, file), -1)
		if len(names) < 30 {
			t.Errorf("%s has %d names of metrics", file, len(names))
		}
		for _, name := range names {
			if _, ok := known[name]; !ok {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	prose, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(prose) < 5 {
		t.Fatal(prose, err)
	}
	for _, file := range append(prose, "../../README.md") {
		for _, name := range regexp.MustCompile(`sluice_[a-z0-9_]+`).FindAllString(read(t, file), -1) {
			// The policy of adding-a-policy.md is an example; a name that goes on with an ellipsis stands for several.
			if _, ok := known[name]; !ok && !strings.HasSuffix(name, "_") && name != "sluice_inflight_refused_total" {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	for _, expr := range expressions(t) {
		for _, fault := range unknownLabels(expr, known) {
			t.Error(fault)
		}
	}
}

// expressions returns those of the dashboard.
func expressions(t *testing.T) (list []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, "../grafana/sluice.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	return list
}

var selector = regexp.MustCompile(`(sluice_[a-z0-9_]+)\{([^}]*)\}`)

// unknownLabels returns what an expression selects by that a metric has not.
func unknownLabels(expr string, known map[string]metric.Definition) (faults []string) {
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		for _, matcher := range strings.Split(m[2], ",") {
			label, _, _ := strings.Cut(matcher, "=")
			label = strings.TrimRight(label, "!")
			if label != "job" && label != "instance" && !slices.Contains(known[m[1]].Labels, label) {
				faults = append(faults, fmt.Sprintf("%s: %s has no label %s", expr, m[1], label))
			}
		}
	}
	return faults
}

// TestDashboardParses: promtool finds each expression of the dashboard sound.
func TestDashboardParses(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, expr := range expressions(t) {
		expr = strings.ReplaceAll(expr, "$__rate_interval", "5m")
		fmt.Fprintf(&rules, "      - {record: 'panel:%d', expr: %q}\n", i, expr)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", file)
}

// TestMetricsAreClean: promtool has nothing to say of any metric that may be published.
func TestMetricsAreClean(t *testing.T) {
	for _, list := range [][]metric.Definition{gateway.Metrics(), xds.Metrics()} {
		registry := prometheus.NewRegistry()
		for _, d := range list {
			registry.MustRegister(sample(d))
		}
		w := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if n := strings.Count(w.Body.String(), "# HELP "); n != len(list) {
			t.Errorf("%d of %d metrics", n, len(list))
		}
		promtool(t, w.Body.String(), "check", "metrics")
	}
}

// sample returns a metric of that definition with one series.
func sample(d metric.Definition) prometheus.Collector {
	values := slices.Repeat([]string{"x"}, len(d.Labels))
	switch d.Kind {
	case metric.Counter:
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
		v.WithLabelValues(values...).Inc()
		return v
	case metric.Histogram:
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: d.Name, Help: d.Help}, d.Labels)
		v.WithLabelValues(values...).Observe(1)
		return v
	}
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
	v.WithLabelValues(values...).Set(1)
	return v
}

// TestHelp: a help text is a sentence that says what is counted.
func TestHelp(t *testing.T) {
	for _, d := range published() {
		if len(d.Help) < 20 || !strings.HasSuffix(d.Help, ".") || strings.Contains(d.Help, "\n") {
			t.Errorf("%s: %q", d.Name, d.Help)
		}
	}
}

var update = flag.Bool("update", false, "write docs/metrics.md anew; what it says to do is kept")

// TestDocumentation: docs/metrics.md has every metric, as it is registered, and what to do.
func TestDocumentation(t *testing.T) {
	const path = "../../docs/metrics.md"
	text := read(t, path)
	want, missing := document(text)
	for _, name := range missing {
		t.Errorf("docs/metrics.md does not say what to do about %s", name)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if text != want {
		t.Errorf("docs/metrics.md is not what is registered: go test ./deploy/prometheus -run Documentation -update")
	}
}

// The parts of docs/metrics.md that are generated begin with these headings and end with the next one of their level.
const (
	ofGateways      = "## Of a gateway\n"
	ofControlPlanes = "## Of a control plane\n"
)

// document returns the text with the lists of metrics in it, and the metrics of which it says nothing to do.
func document(text string) (out string, missing []string) {
	head, rest, _ := strings.Cut(text, ofGateways)
	gateways, controlPlanes, _ := strings.Cut(rest, ofControlPlanes)
	out = head + ofGateways
	for _, part := range []struct {
		list []metric.Definition
		old  string
		next string
	}{{gateway.Metrics(), gateways, ofControlPlanes}, {xds.Metrics(), controlPlanes, ""}} {
		for _, d := range part.list {
			advice := adviceOf(part.old, d.Name)
			if advice == "" {
				missing = append(missing, d.Name)
			}
			out += "\n### " + d.Name + "\n\n" + wrapped(describe(d)) + advice
		}
		if part.next != "" {
			out += "\n" + part.next
		}
	}
	return out, missing
}

// describe says what a metric is.
func describe(d metric.Definition) string {
	kind := strings.ToUpper(string(d.Kind[:1])) + string(d.Kind[1:])
	if len(d.Labels) > 0 {
		kind += " by `" + strings.Join(d.Labels, "`, `") + "`"
	}
	return kind + ". " + d.Help
}

// adviceOf returns what a document says to do about a metric, as it is written; empty for nothing.
func adviceOf(text, name string) string {
	_, section, ok := strings.Cut(text, "\n### "+name+"\n")
	if !ok {
		return ""
	}
	section, _, _ = strings.Cut(section, "\n### ")
	_, advice, ok := strings.Cut(section, "\n\n*Do:*")
	if !ok || strings.TrimSpace(advice) == "" {
		return ""
	}
	return "\n*Do:*" + strings.TrimRight(advice, "\n") + "\n"
}

// wrapped breaks a text into lines of at most 120 columns.
func wrapped(text string) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > 120:
			out.WriteByte('\n')
			column = 0
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	out.WriteByte('\n')
	return out.String()
}

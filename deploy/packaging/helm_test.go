package packaging

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

const chartDir = root + "/deploy/helm/sluice"

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// valuesOf returns the values of a file in the chart's folder; none of "".
func valuesOf(t *testing.T, file string) chartutil.Values {
	t.Helper()
	if file == "" {
		return chartutil.Values{}
	}
	v, err := chartutil.ReadValuesFile(filepath.Join(chartDir, file))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render makes the manifests of `helm install shop -n shop`.
func render(t *testing.T, values chartutil.Values) (string, error) {
	t.Helper()
	c := loadChart(t)
	release := chartutil.ReleaseOptions{Name: "shop", Namespace: "shop", IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(c, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(rendered[name]) != "" {
			text.WriteString("\n---\n" + strings.TrimSpace(rendered[name]) + "\n")
		}
	}
	return text.String(), nil
}

// cases are the values with which the chart is tried: its own, and those of its folder ci.
var cases = []string{"", "ci/embedded.yaml", "ci/everything.yaml"}

func TestChartIsClean(t *testing.T) {
	t.Parallel()
	for _, file := range cases {
		for _, m := range lint.AllWithKubeVersion(chartDir, valuesOf(t, file), "shop", nil).Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("with %q: %s", file, m)
			}
		}
	}
}

func TestChartMakesSoundManifests(t *testing.T) {
	t.Parallel()
	for _, file := range cases {
		text, err := render(t, valuesOf(t, file))
		if err != nil {
			t.Errorf("with %q: %v", file, err)
			continue
		}
		// The schemas are of Kubernetes alone; PodMonitor is of the Prometheus operator.
		own := slices.DeleteFunc(strings.Split(text, "\n---\n"), func(document string) bool {
			return strings.Contains(document, "\nkind: PodMonitor")
		})
		path := write(t, t.TempDir(), "manifests.yaml", strings.Join(own, "\n---\n"))
		checkSchemas(t, path)
		m := decode(t, "the chart with "+file, text)
		if len(m.configs) != 1 || len(m.deployments) != 1 || len(m.services) == 0 {
			t.Fatalf("with %q: parts are missing:\n%s", file, text)
		}
		judge(t, "the chart with "+file, m)
	}
	if text, _ := render(t, valuesOf(t, "ci/everything.yaml")); strings.Count(text, "\nkind: PodMonitor") != 1 ||
		!strings.Contains(text, "sluice-admin.shop.svc") || !strings.Contains(text, "gateway.internal") ||
		!strings.Contains(text, "terminationGracePeriodSeconds: 55") {
		t.Error("with everything on, something is missing")
	}
}

// What cannot work is refused by the chart, and not by pods that do not start.
func TestChartRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	type values = map[string]any
	for name, c := range map[string]struct {
		values values
		says   string
	}{
		"replicas of an embedded store": {values{"replicas": 2,
			"persistence": values{"enabled": true},
			"config":      values{"store": values{"redis": nil, "embedded": values{"dir": "/data"}}}},
			"do not share their keys"},
		"a store that is lost with the pod": {values{"replicas": 1,
			"config": values{"store": values{"redis": nil, "embedded": values{"dir": "/data"}}}}, "outlives the pod"},
		"one volume for several":    {values{"persistence": values{"enabled": true}}, "share one volume"},
		"a token without a Secret":  {values{"adminToken": "admin.token", "secretName": ""}, "there is none"},
		"a value that is none":      {values{"replicaCount": 2}, "replicaCount"},
		"a port of root":            {values{"ports": values{"http": 80}}, "ports"},
		"an address of the chart's": {values{"config": values{"listen": values{"http": ":80"}}}, "config"},
	} {
		if text, err := render(t, c.values); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q\n%s", name, err, c.says, text)
		}
	}
}

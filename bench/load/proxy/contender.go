package proxy

import (
	"embed"
	"slices"
	"text/template"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*.tmpl"))

// The contenders' names; marks and report refer to them.
const (
	relay          = "relay"
	nginx          = "nginx"
	nginxLimit     = "nginx + limit_req"
	nginxFields    = "nginx + limit_req + our fields"
	haproxy        = "haproxy"
	haproxyTable   = "haproxy + stick-table"
	envoy          = "envoy"
	reverseProxy   = "ReverseProxy"
	gateway        = "sluice"
	gatewayFilters = "sluice + filters"
	reverseH2      = "ReverseProxy, h2c service"
	gatewayH2      = "sluice, h2c service"
	nginxTLS       = "nginx, TLS"
	reverseTLS     = "ReverseProxy, TLS"
	gatewayTLS     = "sluice, TLS"
)

var (
	http1  = []measure.Load{loadGet, loadPost, loadBig, loadHuge}
	secure = []measure.Load{loadTLS, loadTLSBig, loadTLSHuge, loadTLSH2}
)

// contenders returns all, in the order of the report.
func contenders() []measure.Contender {
	and := func(more ...measure.Load) []measure.Load { return slices.Concat(http1, more) }
	filters := map[string]any{"Filters": true}
	return []measure.Contender{
		{Name: relay, Args: []string{"relay"}, Loads: http1},
		{Name: nginx, Program: "nginx", Templates: templates, File: "nginx.conf", Loads: http1},
		{Name: nginxLimit, Program: "nginx", Templates: templates, File: "nginx.conf", Settings: filters, Loads: http1},
		{Name: nginxFields, Program: "nginx", Templates: templates, File: "nginx.conf",
			Settings: map[string]any{"Filters": true, "Fields": true}, Loads: http1},
		{Name: haproxy, Program: "haproxy", Templates: templates, File: "haproxy.cfg", Loads: http1},
		{Name: haproxyTable, Program: "haproxy", Templates: templates, File: "haproxy.cfg", Settings: filters,
			Loads: http1},
		{Name: envoy, Program: "envoy", Templates: templates, File: "envoy.yaml", Loads: and(loadH2)},
		{Name: reverseProxy, Args: []string{"reverseproxy"}, Loads: and(loadH2), Metrics: true},
		{Name: gateway, Templates: templates, File: "sluice.yaml", Loads: and(loadH2), Metrics: true},
		{Name: gatewayFilters, Templates: templates, File: "sluice.yaml", Settings: filters, Loads: http1,
			Metrics: true},
		{Name: reverseH2, Args: []string{"reverseproxy"}, Loads: []measure.Load{loadGRPC}, Metrics: true, Direct: true},
		{Name: gatewayH2, Templates: templates, File: "sluice.yaml", Loads: []measure.Load{loadGRPC}, Metrics: true,
			Direct: true},
		{Name: nginxTLS, Program: "nginx", Templates: templates, File: "nginx.conf", Loads: secure, TLS: true},
		{Name: reverseTLS, Args: []string{"reverseproxy-tls"}, Loads: secure, Metrics: true, TLS: true},
		{Name: gatewayTLS, Templates: templates, File: "sluice.yaml", Loads: secure, Metrics: true, TLS: true},
	}
}

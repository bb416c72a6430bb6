package proxy

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
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
)

// contender is one proxy that is measured, before it runs.
type contender struct {
	name    string
	program string         // looked up in PATH; empty is this program
	file    string         // template of its configuration
	args    []string       // without a program: its part, and its addresses follow
	options map[string]any // for the template
	loads   []string
	metrics bool // its admin address has go_memstats_mallocs_total
	direct  bool // its service speaks cleartext HTTP/2

	connections int  // of its closed loop; 0 is what the options say
	agreed      bool // what the builds that are compared have in common is known: bare
	bare        bool // without the settings that not every one of them has
}

// isGateway tells the contenders that are this program's gateway.
func (c *contender) isGateway() bool { return c.program == "" && c.file != "" }

// idlePart is how --only names what an idle connection costs.
const idlePart = "memory an idle connection"

// asked tells whether the expression asks for a part of the contender, "contender: part", or for the contender as a whole.
func (c *contender) asked(only *regexp.Regexp, part string) bool {
	return only == nil || only.MatchString(c.name) || only.MatchString(c.name+": "+part)
}

var http1 = []string{loadGet, loadPost, loadBig}

// contenders returns all, in the order of the report.
func contenders() []contender {
	and := func(more ...string) []string { return append(append([]string(nil), http1...), more...) }
	filters := map[string]any{"Filters": true}
	return []contender{
		{name: relay, args: []string{"relay"}, loads: http1},
		{name: nginx, program: "nginx", file: "nginx.conf", loads: http1},
		{name: nginxLimit, program: "nginx", file: "nginx.conf", options: filters, loads: http1},
		{name: nginxFields, program: "nginx", file: "nginx.conf", options: map[string]any{"Filters": true, "Fields": true}, loads: http1},
		{name: haproxy, program: "haproxy", file: "haproxy.cfg", loads: http1},
		{name: haproxyTable, program: "haproxy", file: "haproxy.cfg", options: filters, loads: http1},
		{name: envoy, program: "envoy", file: "envoy.yaml", loads: and(loadH2)},
		{name: reverseProxy, args: []string{"reverseproxy"}, loads: and(loadH2), metrics: true},
		{name: gateway, file: "sluice.yaml", loads: and(loadH2), metrics: true},
		{name: gatewayFilters, file: "sluice.yaml", options: filters, loads: http1, metrics: true},
		{name: reverseH2, args: []string{"reverseproxy"}, loads: []string{loadGRPC}, metrics: true, direct: true},
		{name: gatewayH2, file: "sluice.yaml", loads: []string{loadGRPC}, metrics: true, direct: true},
	}
}

// chosen returns the contenders that are asked for, each with the loads that are.
func chosen(all []contender, only *regexp.Regexp) []contender {
	var some []contender
	for _, c := range all {
		c.loads = slices.DeleteFunc(slices.Clone(c.loads), func(load string) bool { return !c.asked(only, load) })
		if len(c.loads) > 0 {
			some = append(some, c)
		}
	}
	return some
}

// site is where one process runs and what it leads to; addresses are host:port.
type site struct {
	dir, listen, admin, upstream string
	files                        int // that it may open
}

// connections returns how many clients it can hold, each with a connection to the upstream.
func (s site) connections() int { return min(connectionsHeld, (s.files-100)/2) }

// connectionsHeld is more than any load opens.
const connectionsHeld = 18_000

// command returns what starts the contender, and a note on what of it could not be had.
func (c *contender) command(self string, s site) (cmd *exec.Cmd, note string, err error) {
	switch {
	case c.program != "":
		path, err := find(c.program)
		if err != nil {
			return nil, "", fmt.Errorf("not installed: %w", err)
		}
		file, err := c.configure(s, nil)
		if err != nil {
			return nil, "", err
		}
		cmd = exec.Command(path, programArgs(c.program, file)...)
	case c.file != "":
		file, note, err := c.configureGateway(self, s)
		if err != nil {
			return nil, "", err
		}
		cmd = exec.Command(self, "run", "--log-level", "error", "-c", file)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		return cmd, note, nil
	default:
		scheme := "http"
		if c.direct {
			scheme = "h2c"
		}
		cmd = exec.Command(self, "bench", "part", c.args[0], s.listen, s.admin, scheme+"://"+s.upstream)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	return cmd, "", nil
}

// find looks a program up, also where servers usually are and where not every user's PATH leads.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func programArgs(program, file string) []string {
	switch program {
	case nginx:
		return []string{"-p", filepath.Dir(file), "-c", file}
	case envoy:
		return []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"}
	}
	return []string{"-db", "-f", file}
}

// configureGateway writes the gateway's configuration. A gateway that has no concurrency cap yet goes without, with a note.
func (c *contender) configureGateway(self string, s site) (file, note string, err error) {
	if c.agreed {
		file, err = c.configure(s, map[string]any{"Overload": !c.bare})
		return file, "", err
	}
	file, err = c.configure(s, map[string]any{"Overload": true})
	if err != nil {
		return "", "", err
	}
	missing := validate(self, file)
	if missing == nil {
		return file, "", nil
	}
	if file, err = c.configure(s, nil); err != nil {
		return "", "", err
	}
	if err := validate(self, file); err != nil {
		return "", "", err
	}
	return file, "without a concurrency cap: " + oneLine(missing), nil
}

// validate asks the gateway about its configuration.
func validate(self, file string) error {
	out, err := exec.Command(self, "validate", "-c", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// configure writes the contender's configuration and returns its path.
func (c *contender) configure(s site, more map[string]any) (string, error) {
	values := map[string]any{"Scheme": "http"}
	if c.direct {
		values["Scheme"] = "h2c"
	}
	for _, m := range []map[string]any{c.options, more} {
		for k, v := range m {
			values[k] = v
		}
	}
	path := filepath.Join(s.dir, c.file)
	return path, writeTemplate(path, c.file+".tmpl", s, values)
}

// writeTemplate fills a template with a site's addresses and further values.
func writeTemplate(path, name string, s site, values map[string]any) error {
	values["Dir"], values["Listen"], values["Admin"], values["Upstream"], values["Connections"] = s.dir, s.listen, s.admin, s.upstream, s.connections()
	var err error
	if values["ListenHost"], values["ListenPort"], err = net.SplitHostPort(s.listen); err != nil {
		return err
	}
	if s.upstream != "" {
		if values["UpstreamHost"], values["UpstreamPort"], err = net.SplitHostPort(s.upstream); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, values); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// oneLine is an error as a remark: programs explain themselves in several lines.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

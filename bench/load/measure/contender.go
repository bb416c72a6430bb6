package measure

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/sluice-gateway/sluice/bench/kit/child"
)

// Contender is one proxy that is measured, before it runs.
type Contender struct {
	Name      string
	Program   string             // looked up in PATH; empty is this program
	File      string             // name of its configuration, made by the template of that name and .tmpl
	Templates *template.Template // of configurations
	Args      []string           // without a program: its part, and its addresses follow
	Settings  map[string]any     // for the template
	Loads     []Load
	Metrics   bool // its admin address has go_memstats_mallocs_total
	Direct    bool // its service speaks cleartext HTTP/2
	TLS       bool // clients come with TLS

	Connections int  // of its closed loop; 0 is what the options say
	Agreed      bool // what the builds that are compared have in common is known: bare
	bare        bool // without the settings that not every one of them has
}

// IsGateway tells the contenders that are this program's gateway.
func (c *Contender) IsGateway() bool { return c.Program == "" && c.File != "" }

// IdleLoad is the load by which what an idle connection costs is measured.
func (c *Contender) IdleLoad() Load {
	if c.TLS {
		return GetTLS
	}
	return Get
}

// idlePart is how --only names what an idle connection costs.
const idlePart = "memory an idle connection"

// asked tells whether the expression asks for a part of the contender, "contender: part", or for
// the contender as a whole.
func (c *Contender) asked(only *regexp.Regexp, part string) bool {
	return only == nil || only.MatchString(c.Name) || only.MatchString(c.Name+": "+part)
}

// Chosen returns the contenders that are asked for, each with the loads that are.
func Chosen(all []Contender, only *regexp.Regexp) []Contender {
	var some []Contender
	for _, c := range all {
		c.Loads = slices.DeleteFunc(slices.Clone(c.Loads), func(load Load) bool { return !c.asked(only, load.Name) })
		if len(c.Loads) > 0 {
			some = append(some, c)
		}
	}
	return some
}

// Site is where one process runs and what it leads to; addresses are host:port.
type Site struct {
	Dir, Listen, Admin, Upstream string
	files                        int // that it may open
}

// Connections returns how many clients it can hold, each with a connection to the upstream.
func (s Site) connections() int { return min(connectionsHeld, (s.files-100)/2) }

// connectionsHeld is more than any load opens.
const connectionsHeld = 18_000

// command returns what starts the contender, and a note on what of it could not be had.
func (c *Contender) command(self string, s Site) (cmd *exec.Cmd, note string, err error) {
	switch {
	case c.Program != "":
		path, err := child.Find(c.Program)
		if err != nil {
			return nil, "", fmt.Errorf("not installed: %w", err)
		}
		file, err := c.configure(s, nil)
		if err != nil {
			return nil, "", err
		}
		cmd = exec.Command(path, programArgs(c.Program, file)...)
	case c.File != "":
		file, note, err := c.configureGateway(self, s)
		if err != nil {
			return nil, "", err
		}
		cmd = exec.Command(self, "run", "--log-level", "error", "-c", file)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
		return cmd, note, nil
	default:
		scheme := "http"
		if c.Direct {
			scheme = "h2c"
		}
		cmd = exec.Command(self, "bench", "part", c.Args[0], s.Listen, s.Admin, scheme+"://"+s.Upstream)
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	return cmd, "", nil
}

func programArgs(program, file string) []string {
	switch program {
	case "nginx":
		return []string{"-p", filepath.Dir(file), "-c", file}
	case "envoy":
		return []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"}
	}
	return []string{"-db", "-f", file}
}

// configureGateway writes the gateway's configuration. A gateway that has no concurrency cap yet
// goes without, with a note.
func (c *Contender) configureGateway(self string, s Site) (file, note string, err error) {
	if c.Agreed {
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
	return file, "without a concurrency cap: " + OneLine(missing), nil
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
func (c *Contender) configure(s Site, more map[string]any) (string, error) {
	values := map[string]any{"Scheme": "http"}
	if c.Direct {
		values["Scheme"] = "h2c"
	}
	for _, m := range []map[string]any{c.Settings, more} {
		for k, v := range m {
			values[k] = v
		}
	}
	if values["TLS"] = c.TLS; c.TLS {
		if err := WriteCertificate(s.Dir); err != nil {
			return "", err
		}
	}
	path := filepath.Join(s.Dir, c.File)
	return path, writeTemplate(c.Templates, path, c.File+".tmpl", s, values)
}

// writeTemplate fills a template with a site's addresses and further values.
func writeTemplate(templates *template.Template, path, name string, s Site, values map[string]any) error {
	values["Dir"], values["Listen"], values["Admin"], values["Upstream"], values["Connections"] = s.Dir, s.Listen,
		s.Admin, s.Upstream, s.connections()
	var err error
	if values["ListenHost"], values["ListenPort"], err = net.SplitHostPort(s.Listen); err != nil {
		return err
	}
	if s.Upstream != "" {
		if values["UpstreamHost"], values["UpstreamPort"], err = net.SplitHostPort(s.Upstream); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, values); err != nil {
		return err
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// OneLine is an error as a remark: programs explain themselves in several lines.
func OneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

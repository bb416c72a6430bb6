package sagaclient_test

import (
	"archive/zip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	clientModule = "github.com/sluice-gateway/sluice/sagaclient"
	released     = "v0.1.0" // what the modules require of each other
)

// Programs of others get these modules from a proxy, where no replace directive counts, and where
// each module is its own folder without the modules below it.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	o := newOutsider(t)
	for _, m := range []string{"", "/fromdtmcli", "/participant"} {
		o.publish(m)
	}
	t.Run("light", func(t *testing.T) {
		dir := o.program(t, `package main

import (
	"fmt"

	"`+clientModule+`"
	"`+clientModule+`/participant"
	"`+clientModule+`/participant/redisbarrier"
)

func main() {
	_ = redisbarrier.NewEffect("")
	fmt.Print(len(sagaclient.NewGID()), participant.TooLate)
}
`, clientModule, clientModule+"/participant")
		if out := o.run(t, dir, "run", "."); out != "40 too-late" {
			t.Errorf("the program printed %q", out)
		}
		deps := strings.Fields(o.run(t, dir, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "."))
		want := []string{clientModule, clientModule + "/participant", clientModule + "/participant/redisbarrier",
			"outsider"}
		if slices.Sort(deps); !slices.Equal(deps, want) {
			t.Errorf("it links %v, want %v", deps, want)
		}
		modules := strings.Count(o.run(t, dir, "list", "-m", "all"), "\n")
		if modules != 3 {
			t.Errorf("%d modules in its build list, want 3", modules)
		}
	})
	t.Run("with dtmcli", func(t *testing.T) {
		dir := o.program(t, "package main\n\nimport _ \""+clientModule+"/fromdtmcli\"\n\nfunc main() {}\n",
			clientModule+"/fromdtmcli")
		for _, m := range []string{clientModule + " " + released, "github.com/dtm-labs/client v1.17.3"} {
			if all := o.run(t, dir, "list", "-m", "all"); !strings.Contains("\n"+all, "\n"+m+"\n") {
				t.Errorf("%s is not in the build list:\n%s", m, all)
			}
		}
	})
}

// outsider has a module proxy and an empty module cache.
type outsider struct {
	t     *testing.T
	proxy string
	vars  []string
}

func newOutsider(t *testing.T) *outsider {
	o := &outsider{t: t, proxy: t.TempDir()}
	known := strings.Fields(o.run(t, ".", "env", "GOMODCACHE", "GOPROXY"))
	if len(known) != 2 {
		t.Fatalf("go env: %q", known)
	}
	o.vars = []string{
		"GOPROXY=file://" + o.proxy + ",file://" + filepath.Join(known[0], "cache", "download") + "," + known[1],
		"GOMODCACHE=" + t.TempDir(), "GOSUMDB=off", "GOWORK=off", "GOTOOLCHAIN=local",
		// So that what was compiled for another folder of modules is used.
		"GOFLAGS=-modcacherw -mod=mod -trimpath", "CGO_ENABLED=0",
		"GONOPROXY=none", "GOPRIVATE=",
	}
	return o
}

func (o *outsider) run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), o.vars...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// program writes one that requires the modules.
func (o *outsider) program(t *testing.T, source string, modules ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mod := "module outsider\n\ngo 1.26.0\n"
	for _, m := range modules {
		mod += "\nrequire " + m + " " + released + "\n"
	}
	for name, text := range map[string]string{"go.mod": mod, "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// publish puts the module in that folder below sagaclient on the proxy, as git has it.
func (o *outsider) publish(folder string) {
	o.t.Helper()
	root := filepath.Join("..", "..", "..", "sagaclient", filepath.FromSlash(folder))
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		o.t.Fatal(err)
	}
	at := filepath.Join(o.proxy, filepath.FromSlash(clientModule+folder), "@v")
	if err := os.MkdirAll(at, 0o700); err != nil {
		o.t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		o.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list": released + "\n", released + ".info": `{"Version":"` + released + `"}`, released + ".mod": string(mod),
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	file, err := os.Create(filepath.Join(at, released+".zip"))
	if err != nil {
		o.t.Fatal(err)
	}
	archive := zip.NewWriter(file)
	for _, name := range strings.Fields(string(out)) {
		o.add(archive, root, name, clientModule+folder+"@"+released+"/"+name)
	}
	if err := archive.Close(); err != nil {
		o.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		o.t.Fatal(err)
	}
}

// add writes a file into the archive unless it is deleted or belongs to a module below.
func (o *outsider) add(archive *zip.Writer, root, name, as string) {
	o.t.Helper()
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return
		}
	}
	text, err := os.ReadFile(filepath.Join(root, name))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		o.t.Fatal(err)
	}
	w, err := archive.Create(as)
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

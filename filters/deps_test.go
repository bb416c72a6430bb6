package filters_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice"

// imports is what each package of this module imports outside of its tests; both as paths.
type imports map[string][]string

// TestDependencies holds the tree against the package map: what may know what. It reads the sources
// and not the build, so that no build tag hides an import, and reports everything at once.
func TestDependencies(t *testing.T) {
	tree := readImports(t, "..")
	for _, must := range []string{"filters", "filters/identity", "filters/ratelimit", "filters/breaker"} {
		if _, ok := tree[module+"/"+must]; !ok {
			t.Errorf("%s was not read: the test looks in the wrong place", must)
		}
	}
	for _, v := range violations(tree) {
		t.Error(v)
	}
}

// readImports parses every Go file of the module that is not a test. Nested modules have rules of
// their own.
func readImports(t *testing.T, root string) imports {
	t.Helper()
	tree := imports{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(root, path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := strings.TrimSuffix(module+"/"+filepath.ToSlash(folder), "/.")
		for _, spec := range file.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(tree[pkg], p) {
				tree[pkg] = append(tree[pkg], p)
			}
		}
		if tree[pkg] == nil {
			tree[pkg] = []string{}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func skip(root, path, name string) error {
	if path == root {
		return nil
	}
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

// violations returns one sentence for each import that the package map forbids, sorted.
func violations(tree imports) []string {
	var found []string
	for _, pkg := range slices.Sorted(maps.Keys(tree)) {
		folder := strings.TrimPrefix(pkg, module+"/")
		deny := func(why string, paths []string) {
			for _, p := range paths {
				found = append(found, folder+" imports "+strings.TrimPrefix(p, module+"/")+": "+why)
			}
		}
		direct := slices.Sorted(slices.Values(tree[pkg]))
		deny("filtertest is for tests", in(direct, module+"/filters/filtertest"))
		switch {
		case within(folder, "filters"):
			deny("filters are blind to transport", in(direct, "net/http", "golang.org/x/net/http2",
				"google.golang.org/grpc",
				"google.golang.org/genproto", "github.com/envoyproxy"))
			if within(folder, "filters/store") {
				deny("what stores share knows nothing of ours", slices.DeleteFunc(in(direct, module),
					func(p string) bool {
						return within(p, module+"/"+storeOf(folder))
					}))
				break
			}
			deny("a filter imports package filters, its own stores and libraries, and what policies share",
				slices.DeleteFunc(in(direct, module), func(p string) bool {
					return p == module+"/filters" && !leaf(folder) || shared(p) && !leaf(folder) || owner(p) != "" &&
						owner(p) == owner(pkg) || leaf(folder) && p == reader
				}))
			if leaf(folder) {
				deny("it needs the standard library and the reader of bodies only",
					slices.DeleteFunc(slices.Clone(direct), func(p string) bool { return standard(p) || p == reader }))
			}
		case within(folder, "control/config"):
			deny("the configuration model imports nothing of ours but filters/ref",
				slices.DeleteFunc(in(direct, module), func(p string) bool {
					return within(p, module+"/control/config") || p == module+"/filters/ref"
				}))
		case within(folder, "control/source"):
			deny("a source knows the configuration, how it travels and where endpoints are, and nothing else of ours",
				slices.DeleteFunc(in(direct, module), func(p string) bool {
					return within(p, module+"/control/source") || p == module+"/control/config" || p == metrics ||
						p == module+"/control/nativedialect" || p == module+"/control/discovery"
				}))
		case within(folder, "control/xds"):
			deny("the control plane has nothing of the data plane but what the operators' addresses share",
				slices.DeleteFunc(reach(tree, pkg, module+"/gateway"), func(p string) bool {
					return p == metrics || p == module+"/gateway/admin/adminguard" ||
						p == module+"/gateway/internalserver"
				}))
		case within(module+"/"+folder, metrics):
			deny("whatever counts imports it, so it knows nothing of ours but parts by processor",
				slices.DeleteFunc(in(direct, module), func(p string) bool { return p == processors }))
		case within(folder, "gateway/policy"):
			deny("it builds chains for Envoy too, so it imports no engine", reach(tree, pkg, engine...))
		case in([]string{pkg}, engine...) != nil:
			deny("the engine knows no policy", slices.DeleteFunc(in(direct, module+"/filters",
				module+"/gateway/policy"), func(p string) bool {
				return p == module+"/filters" || p == processors
			}))
		case within(folder, "sagaclient"):
			deny("services import it, so it brings no gateway", reach(tree, pkg, module+"/gateway", module+"/filters"))
		case within(folder, "bench"):
			// gateway.Run is the data plane's public interface, and a configuration is read with
			// control/config; what lies behind them is not.
			without := maps.Clone(tree)
			delete(without, module+"/gateway")
			delete(without, module+"/control/config")
			delete(without, module+"/control/source")
			delete(without, simulator)
			deny("it uses public interfaces only", slices.DeleteFunc(reach(without, pkg, module+"/gateway",
				module+"/filters"), func(p string) bool {
				return p == module+"/gateway" || folder == simulatorFolder && p == module+"/filters/overload"
			}))
		}
	}
	return found
}

// simulator drives the core of overload in virtual time: no interface from outside has that.
const (
	simulatorFolder = "bench/load/overload"
	simulator       = module + "/" + simulatorFolder
)

// engine is everything that reads and writes HTTP.
var engine = []string{
	module + "/gateway/message", module + "/gateway/http1", module + "/gateway/http2",
	module + "/gateway/upstream", module + "/gateway/router", module + "/gateway/proxyproto",
}

// metrics is the package through which everything is counted.
const metrics = module + "/gateway/metric"

// processors is the package by which tables are divided by processor. It needs the standard library only.
const processors = module + "/filters/processor"

// storeOf returns the folder below filters/store that a folder belongs to.
func storeOf(folder string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(folder, "filters/store/"), "/")
	return "filters/store/" + name
}

// leaf reports whether a folder is one that every policy builds on, and that therefore builds on
// nothing.
func leaf(folder string) bool {
	switch module + "/" + folder {
	case module + "/filters", module + "/filters/ref", reader, processors:
		return true
	}
	return false
}

// reader is the package that reads members of bodies, for package filters and for the references.
const reader = module + "/filters/jsonscan"

// shared reports whether a package is one that policies may share.
func shared(pkg string) bool {
	return in([]string{pkg}, module+"/filters/ref", module+"/filters/store", processors) != nil
}

// owner returns the filter that a package belongs to, "" for package filters and everything
// outside.
func owner(pkg string) string {
	rest, ok := strings.CutPrefix(pkg, module+"/filters/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// within reports whether a path is a folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// in returns those paths that lie within one of the folders.
func in(paths []string, folders ...string) []string {
	var hit []string
	for _, p := range paths {
		if slices.ContainsFunc(folders, func(f string) bool { return within(p, f) }) {
			hit = append(hit, p)
		}
	}
	return hit
}

// standard reports whether a path is the standard library's: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// reach returns which packages in those folders a package imports, by itself or by way of others of
// this module, sorted. It does not look behind what it returns: one import too many is one finding.
func reach(tree imports, pkg string, folders ...string) []string {
	seen := map[string]bool{}
	var hits []string
	var visit func(string)
	visit = func(p string) {
		for _, next := range tree[p] {
			if seen[next] {
				continue
			}
			seen[next] = true
			if hit := in([]string{next}, folders...); hit != nil {
				hits = append(hits, hit...)
				continue
			}
			visit(next)
		}
	}
	visit(pkg)
	slices.Sort(hits)
	return hits
}

// TestViolationsAreFound: a rule that finds nothing in the tree must at least find what is planted.
func TestViolationsAreFound(t *testing.T) {
	own := func(folder string) string { return module + "/" + folder }
	got := violations(imports{
		own("filters"): {"encoding/json", "golang.org/x/sync/errgroup", own("gateway")},
		own("filters/breaker"): {own("filters"), "net/http", "google.golang.org/grpc/codes",
			own("filters/ratelimit"), "golang.org/x/time/rate"},
		own("filters/ratelimit"): {own("filters"), "net/netip", own("control/config")},
		own("filters/ratelimit/redisstore"): {own("filters/ratelimit"), own("filters/idempotency/redisstore"),
			"github.com/envoyproxy/go-control-plane/x"},
		own("filters/ratelimit/x"): {own("filters/store/redisx")},
		own("filters/store/redisx"): {own("filters/store/redisx/inner"), own("filters/store/seglog"),
			own("filters"), own("filters/sale")},
		own("filters/idempotency"): {own("filters/idempotency/internal/frame"), own("filters/filtertest"),
			"net/http/httputil"},
		own("filters/sale"):         {own("filters"), own("filters/ref"), own("filters/store/seglog")},
		own("filters/ref"):          {"encoding/json", "golang.org/x/text/cases", own("filters")},
		own("filters/store/seglog"): {own("filters/store/seglog/frame"), own("filters/idempotency"), "net"},
		own("control/config"): {own("control/config/inner"), own("filters"), own("filters/ref"),
			"net/http"},
		own("control/xds"):      {own("control/config"), "google.golang.org/grpc"},
		own("control/source"):   {own("control/config"), own("gateway")},
		own("gateway/policy"):   {own("filters/breaker"), own("gateway/template")},
		own("gateway/template"): {own("gateway/router")},
		own("gateway/http1"): {own("filters"), own("gateway/message"), own("filters/idempotency"),
			own("gateway/policy")},
		own("sagaclient"):         {own("sagaclient/barrier")},
		own("sagaclient/barrier"): {own("gateway/http1"), "net/http"},
		own("bench"):              {own("helper"), own("sagaclient"), own("gateway")},
		own("helper"):             {own("filters/sale")},
		own("gateway"):            {own("filters/breaker"), own("control/config"), "net/http"},
	})
	want := []string{
		"bench imports filters/sale: ", "bench imports gateway/http1: ",
		"control/config imports filters: ", "control/source imports gateway: ", "control/xds imports gateway: ",
		"gateway/http1 imports filters/idempotency: ", "gateway/http1 imports gateway/policy: ",
		"gateway/policy imports gateway/router: ",
		"filters imports gateway: a filter", "filters imports gateway: it needs",
		"filters imports golang.org/x/sync/errgroup: ",
		"filters/breaker imports filters/ratelimit: ", "filters/breaker imports google.golang.org/grpc/codes: ",
		"filters/breaker imports net/http: ",
		"filters/idempotency imports filters/filtertest: a filter",
		"filters/idempotency imports filters/filtertest: filtertest",
		"filters/idempotency imports net/http/httputil: ",
		"filters/ratelimit imports control/config: ",
		"filters/ref imports filters: a filter", "filters/ref imports filters: it needs",
		"filters/ref imports golang.org/x/text/cases: ",
		"filters/store/seglog imports filters/idempotency: ",
		"filters/ratelimit/redisstore imports filters/idempotency/redisstore: ",
		"filters/ratelimit/redisstore imports github.com/envoyproxy/go-control-plane/x: ",
		"filters/store/redisx imports filters/sale: ", "filters/store/redisx imports filters/store/seglog: ",
		"filters/store/redisx imports filters: ",
		"sagaclient imports gateway/http1: ", "sagaclient/barrier imports gateway/http1: ",
	}
	slices.Sort(got)
	slices.Sort(want)
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}
}

package envoydialect_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-gateway/sluice/control/envoydialect"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// TestRoutesAsTheGateway: for random tables, the first route that Envoy would take is the one that the
// gateway's router finds, and so are 404, 405 and, where no paths overlap in part, Allow.
func TestRoutesAsTheGateway(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		model, text := randomTable(r)
		resources, lines := compile(t, parse(t, text), envoydialect.Options{})
		table := resources.Routes[0].VirtualHosts[0].Routes
		exact := !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "match: approximate") })
		for range 60 {
			path, method := randomPath(r), methods[r.IntN(len(methods))]
			name, _, result := model.Find(method, path, nil)
			got := firstMatch(t, table, method, path)
			want := name
			switch result {
			case router.NoPath:
				want = "sluice.no-route"
			case router.NoMethod:
				want = "sluice.method-not-allowed"
			}
			if got.Name != want {
				t.Fatalf("%s %s leads to %s, want %s, in\n%s", method, path, got.Name, want, text)
			}
			if result == router.NoMethod && exact && allowOf(got) != strings.Join(model.Allow(path), ", ") {
				t.Fatalf("%s %s: Allow %q, want %q, in\n%s", method, path, allowOf(got), model.Allow(path), text)
			}
		}
	}
}

var (
	methods  = []string{"GET", "POST", "PUT", "HEAD"}
	segments = []string{"a", "b", "a:b", "{x}", "{y}"}
)

func randomTable(r *rand.Rand) (*router.Router[string], string) {
	model, text := new(router.Router[string]), new(strings.Builder)
	text.WriteString("routes:\n")
	for n := range 1 + r.IntN(8) {
		path := ""
		for i := range r.IntN(4) {
			s := segments[r.IntN(len(segments))]
			path += "/" + strings.ReplaceAll(s, "}", fmt.Sprint(i, "}"))
		}
		if r.IntN(4) == 0 {
			path += "/**"
		}
		if path == "" {
			path = "/"
		}
		var taken []string
		for _, m := range methods[:3] {
			if r.IntN(3) == 0 {
				taken = append(taken, m)
			}
		}
		name := fmt.Sprintf("r%d", n)
		fmt.Fprintf(text, "  - {name: %s, match: {path: %q", name, path)
		if taken != nil {
			fmt.Fprintf(text, ", methods: [%s]", strings.Join(taken, ", "))
		}
		text.WriteString("}, respond: {status: 204}}\n")
		if slices.Contains(taken, "GET") {
			taken = append(taken, "HEAD")
		}
		if err := model.Add(path, taken, name); err != nil {
			panic(err)
		}
	}
	return model, text.String()
}

func randomPath(r *rand.Rand) string {
	path := ""
	for range r.IntN(4) {
		path += "/" + []string{"a", "b", "a:b", "a%3Ab", "c"}[r.IntN(5)]
	}
	if path == "" || r.IntN(6) == 0 {
		path += "/"
	}
	return path
}

// firstMatch finds a route as Envoy does.
func firstMatch(t *testing.T, table []*routev3.Route, method, path string) *routev3.Route {
	t.Helper()
	for _, route := range table {
		m := route.Match
		taken := true
		for _, h := range m.Headers {
			s := h.GetStringMatch()
			if s.GetSafeRegex() != nil {
				taken = whole(s.GetSafeRegex().Regex, method)
			} else {
				taken = s.GetExact() == method
			}
		}
		if taken && matchesPath(m, path) {
			return route
		}
	}
	t.Fatalf("nothing takes %s %s", method, path)
	return nil
}

func matchesPath(m *routev3.RouteMatch, path string) bool {
	switch p := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Path:
		return p.Path == path
	case *routev3.RouteMatch_Prefix:
		return strings.HasPrefix(path, p.Prefix)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		rest, ok := strings.CutPrefix(path, p.PathSeparatedPrefix)
		return ok && (rest == "" || rest[0] == '/')
	}
	return whole(m.GetSafeRegex().GetRegex(), path)
}

// compiled are expressions, which are compiled once.
var compiled = map[string]*regexp.Regexp{}

func whole(expression, text string) bool {
	if compiled[expression] == nil {
		compiled[expression] = regexp.MustCompile("^(?:" + expression + ")$")
	}
	return compiled[expression].MatchString(text)
}

func allowOf(r *routev3.Route) string {
	for _, h := range r.ResponseHeadersToAdd {
		if h.Header.Key == "allow" {
			return h.Header.Value
		}
	}
	return ""
}

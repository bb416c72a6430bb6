package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// TestUnreachedRoutes holds the warnings of the configuration against the router: no request comes
// to a route that is warned of, and one does to any other.
func TestUnreachedRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "{x}", "{x}", "A|b"})
		methods := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"GET", "POST", "HEAD"}), 0, 3, rapid.ID)
		var doc strings.Builder
		doc.WriteString("version: 1\nroutes:\n")
		n := rapid.IntRange(1, 9).Draw(t, "routes")
		for i := range n {
			segments := rapid.SliceOfN(part, 0, 3).Draw(t, "segments")
			for at := range segments { // a parameter's name stands in a pattern once
				segments[at] = strings.Replace(segments[at], "x", fmt.Sprint("x", at), 1)
			}
			pattern := "/" + strings.Join(segments, "/")
			switch end := rapid.SampledFrom([]string{"", "", "/", "/**"}).Draw(t, "end"); {
			case len(segments) > 0:
				pattern += end
			case end == "/**":
				pattern = "/**"
			}
			fmt.Fprintf(&doc, "  - {name: r%d, match: {path: %q", i, pattern)
			if list := methods.Draw(t, "methods"); len(list) > 0 {
				fmt.Fprintf(&doc, ", methods: [%s]", strings.Join(list, ", "))
			}
			doc.WriteString("}, respond: {status: 204}}\n")
		}
		cfg, err := config.Parse("t.yaml", []byte(doc.String()), "")
		if err != nil {
			t.Fatal(err)
		}
		routes, err := routesOf(cfg)
		if err != nil {
			t.Fatal(err)
		}
		reached := map[string]string{}
		for _, path := range pathsUpTo(4) {
			for _, method := range []string{"GET", "POST", "HEAD", "OTHER"} {
				if rt, _, result := routes.Find(method, path, nil); result == router.Found {
					reached[rt.name] = method + " " + path
				}
			}
		}
		warned := map[string]bool{}
		for _, w := range cfg.Warnings() {
			if _, of, ok := strings.Cut(w.Message, `reaches route "`); ok {
				name, _, _ := strings.Cut(of, `"`)
				warned[name] = true
			}
		}
		for _, r := range cfg.Routes {
			request, ok := reached[r.Name]
			if warned[r.Name] && ok {
				t.Fatalf("%s is warned of, and %s reaches it:\n%s", r.Name, request, doc.String())
			}
			if !warned[r.Name] && !ok {
				t.Fatalf("%s is not warned of, and nothing reaches it:\n%s", r.Name, doc.String())
			}
		}
	})
}

// pathsUpTo returns canonical paths of so many segments at most: each that a pattern has as a
// literal, one that none has, and with a slash at the end and without.
func pathsUpTo(segments int) []string {
	all := []string{"/"}
	level := []string{""}
	for range segments {
		var next []string
		for _, path := range level {
			for _, s := range []string{"a", "b", "A%7Cb", "other"} {
				next = append(next, path+"/"+s)
			}
		}
		for _, path := range next {
			all = append(all, path, path+"/")
		}
		level = next
	}
	return slices.Clip(all)
}

// TestPatternsOfTheConfigurationAreRoutes: a path that the configuration accepts is one that the
// router takes.
func TestPatternsOfTheConfigurationAreRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{
			"a", "/", "/", "{x}", "**", "%", "%41", "%zz", "\\", ";", "é", ".", "..", "|", "^",
		})
		pattern := "/" + strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), "")
		doc := fmt.Sprintf("version: 1\nroutes: [{name: r, match: {path: %q}, respond: {status: 204}}]\n", pattern)
		cfg, err := config.Parse("t.yaml", []byte(doc), "")
		if err != nil {
			return
		}
		if _, err := routesOf(cfg); err != nil {
			t.Fatal(err)
		}
	})
}

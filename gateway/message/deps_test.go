package message

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The two engines share this package and do not know each other.
func TestEnginesDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	for folder, allowed := range map[string][]string{
		".":        {"/filters", "/gateway/budget"},
		"../http1": {"/filters", "/gateway/budget", "/gateway/message"},
		"../http2": {"/filters", "/gateway/budget", "/gateway/message"},
	} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range f.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				own, ours := strings.CutPrefix(path, "github.com/sluice-gateway/sluice")
				if ours && !strings.Contains(strings.Join(allowed, " ")+" ", own+" ") {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
}

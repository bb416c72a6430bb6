// Package docs is prose. Its tests hold the prose, and the form of all text in this repository,
// against the tree.
package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// tracked returns the files of the repository, generated ones and data for tests left out, by
// slash-separated paths relative to its root.
func tracked(t *testing.T) []string {
	t.Helper()
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		_, err := os.Stat(filepath.Join("..", name))
		return err != nil || exempt(name) // what is deleted and not yet committed is listed too
	})
	if len(files) < 100 {
		t.Fatalf("git lists %d files, which cannot be all", len(files))
	}
	return files
}

// exempt: data for tests, the pages of reports and the configurations of other programs that they
// start, figures as they were measured, licenses.
func exempt(name string) bool {
	return strings.Contains(name, "testdata/") || strings.Contains(name, "templates/") ||
		slices.Contains([]string{"RESULTS.md", "LICENSE", "go.mod", "go.sum"}, filepath.Base(name))
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dataInTest: messages on the wire, and configurations in YAML or JSON, in the literals of a test.
var dataInTest = regexp.MustCompile(`\\r\\n|\{.*: |^\t+\x60\{`)

// Code and text fit in 120 columns, where a tab counts 4.
func TestWidth(t *testing.T) {
	const columnsMax = 120
	kinds := []string{".go", ".md", ".sh", ".yaml", ".yml", ".tmpl", ".js"}
	for _, name := range tracked(t) {
		if !slices.Contains(kinds, filepath.Ext(name)) && filepath.Base(name) != "Makefile" {
			continue
		}
		for i, line := range strings.Split(read(t, name), "\n") {
			columns := utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
			data := strings.HasSuffix(name, "_test.go") && dataInTest.MatchString(line) || strings.HasPrefix(line, "|")
			if columns > columnsMax && !data {
				t.Errorf("%s:%d has %d columns", name, i+1, columns)
			}
		}
	}
}

var (
	// listing is a block of code, which is fenced or indented.
	listing = regexp.MustCompile("(?ms)^```.*?^```$|^    [^`\n]*$")
	code    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	// A table of files in doc.go is preformatted text: lines that begin with a tab.
	preformatted  = regexp.MustCompile(`(?m)^//\t.*$`)
	fileOfPackage = regexp.MustCompile(`[a-z0-9_/]+\.go\b`)
)

// What the Markdown files name in code style by a path of this repository is there, and so is what
// they link to.
func TestMarkdownNamesWhatIsThere(t *testing.T) {
	for _, name := range tracked(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		text := listing.ReplaceAllString(read(t, name), "")
		for _, quoted := range code.FindAllString(text, -1) {
			if path := strings.Trim(quoted, "`"); isPath(path) && !exists(path) {
				t.Errorf("%s names %s, which is not there", name, path)
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "://") && !exists(filepath.Join(filepath.Dir(name), m[1])) {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}

// isPath: a path of this repository begins with one of its folders. Patterns, commands and
// placeholders do not count, nor the policy that adding-a-policy.md makes up.
func isPath(s string) bool {
	first, rest, ok := strings.Cut(s, "/")
	return ok && rest != "" && !strings.ContainsAny(s, " <>{}$*…") &&
		!strings.Contains(s, "NAME") && !strings.Contains(s, "inflight") && slices.Contains([]string{
		".ci", ".github", "bench", "cmd", "control", "deploy", "docs", "filters", "gateway", "sagaclient",
	}, first)
}

// The files in the tables of each doc.go are there.
func TestPackageDocsNameWhatIsThere(t *testing.T) {
	for _, name := range tracked(t) {
		if filepath.Base(name) != "doc.go" {
			continue
		}
		for _, line := range preformatted.FindAllString(read(t, name), -1) {
			for _, file := range fileOfPackage.FindAllString(line, -1) {
				if !exists(filepath.Join(filepath.Dir(name), file)) {
					t.Errorf("%s names %s, which is not there", name, file)
				}
			}
		}
	}
}

// exists takes a path relative to the root of the repository.
func exists(path string) bool {
	_, err := os.Stat(filepath.Join("..", path))
	return err == nil
}

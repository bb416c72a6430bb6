// Package mutants shows what a test of a package finds: it takes the safeguards of the package out, one at a time, and
// the test has to fail without each.
//
// All mutants are in one program, since to build one for each takes longer than to run it. An edit puts the word
// MUTANT where the safeguard stands; it becomes a question that is true in the process which runs that mutant, by the
// environment variable that [Program.Command] sets. The source stays as it is: the go command reads the edited files
// through an overlay.
package mutants

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const variable = "SLUICE_MUTANT"

// Mutant is one safeguard taken out.
type Mutant struct {
	Name  string   // what the package then does, or does not do
	Edits []string // triples: a file of the package, what stands there once, and what it becomes
}

// Program is the test program of a package with all mutants in it.
type Program struct{ path string }

// Build builds the tests of the current folder on the package in folder source, which has that name, with all mutants
// in it. It fails the test where an edit does not fit: whoever rewords a line of an edit rewords it there too.
func Build(t testing.TB, source, name string, list []Mutant) *Program {
	t.Helper()
	source, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"mutant.go": "package " + name + "\n\nimport \"os\"\n\n" +
		"var mutantName = os.Getenv(\"" + variable + "\")\n\n" +
		"func mutant(name string) bool { return mutantName == name }\n"}
	for _, m := range list {
		m.edit(t, source, texts)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "mutants.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay(t, source, dir, texts),
		"-vet=off", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make builds all else, so that what is compiled is used
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &Program{program}
}

// edit makes the edits of one mutant. Texts are the files by name, as the mutants before left them.
func (m *Mutant) edit(t testing.TB, source string, texts map[string]string) {
	t.Helper()
	for i := 0; i < len(m.Edits); i += 3 {
		file, from, to := m.Edits[i], m.Edits[i+1], m.Edits[i+2]
		if texts[file] == "" {
			text, err := os.ReadFile(filepath.Join(source, file))
			if err != nil {
				t.Fatal(err)
			}
			texts[file] = string(text)
		}
		if n := strings.Count(texts[file], from); n != 1 {
			t.Fatalf("%s: %s has %q %d times, one is to be replaced", m.Name, file, from, n)
		}
		to = strings.ReplaceAll(to, "MUTANT", "mutant(\""+m.Name+"\")")
		texts[file] = strings.Replace(texts[file], from, to, 1)
	}
}

// overlay writes the texts and the file that tells the go command to read them in place of those of source.
func overlay(t testing.TB, source, dir string, texts map[string]string) (path string) {
	t.Helper()
	replace := map[string]string{}
	for file, text := range texts {
		replace[filepath.Join(source, file)] = filepath.Join(dir, file)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	content, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Command is the program with that mutant; with "" it has all safeguards. It ends with the test.
func (p *Program) Command(t testing.TB, mutant string, args ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), p.path, args...)
	c.Env = append(os.Environ(), variable+"="+mutant)
	return c
}

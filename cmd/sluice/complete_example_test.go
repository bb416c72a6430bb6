package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/sluice-gateway/sluice/control/config"
)

const completeExample = "../../deploy/examples/complete.yaml"

// alternative is the beginning of a line of the example that has a setting in place of the one above.
var alternative = regexp.MustCompile(`(?m)^( *)#\| `)

// schemaNode is what the walk below needs of a JSON Schema.
type schemaNode struct {
	Ref                  string `json:"$ref"`
	Properties           map[string]*schemaNode
	Items                *schemaNode
	Else                 *schemaNode
	Not                  any
	AdditionalProperties json.RawMessage
	Defs                 map[string]*schemaNode `json:"$defs"`
}

// occurrences notes which settings of the schema a document has.
type occurrences struct {
	defs  map[string]*schemaNode
	found map[*schemaNode]map[string]bool // by the mapping that has the setting
}

func (o *occurrences) resolve(s *schemaNode) *schemaNode {
	if s.Ref != "" {
		s = o.defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	}
	if s.Else != nil && s.Else.Properties != nil { // written as a word, or as this
		return s.Else
	}
	return s
}

func (o *occurrences) walk(s *schemaNode, value any) {
	s = o.resolve(s)
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			if s.Items != nil {
				o.walk(s.Items, item)
			}
		}
	case map[string]any:
		var each *schemaNode
		if json.Unmarshal(s.AdditionalProperties, &each) != nil { // false: no other names
			each = nil
		}
		for name, inner := range v {
			of := s.Properties[name]
			if of != nil {
				if o.found[s] == nil {
					o.found[s] = map[string]bool{}
				}
				o.found[s][name] = true
			} else if of = each; of == nil {
				continue
			}
			o.walk(of, inner)
		}
	}
}

// missing returns the settings below a schema that the document has nowhere.
func (o *occurrences) missing(path string, s *schemaNode, seen map[*schemaNode]bool) (list []string) {
	if s = o.resolve(s); seen[s] {
		return nil
	}
	seen[s] = true
	for name, inner := range s.Properties {
		at := path + "." + name
		if o.resolve(inner).Not != nil { // not supported yet
			continue
		}
		if !o.found[s][name] {
			list = append(list, at)
			continue
		}
		list = append(list, o.missing(at, inner, seen)...)
	}
	if s.Items != nil {
		list = append(list, o.missing(path+"[]", s.Items, seen)...)
	}
	var each *schemaNode
	if json.Unmarshal(s.AdditionalProperties, &each) == nil && each != nil {
		list = append(list, o.missing(path+".NAME", each, seen)...)
	}
	return list
}

// TestCompleteExampleHasEverySetting: whoever adds a setting shows it there.
func TestCompleteExampleHasEverySetting(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(completeExample)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := yaml.Unmarshal(alternative.ReplaceAll(text, []byte("$1")), &document); err != nil {
		t.Fatal(err)
	}
	b, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema schemaNode
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	o := &occurrences{defs: schema.Defs, found: map[*schemaNode]map[string]bool{}}
	o.walk(&schema, document)
	missing := o.missing("", &schema, map[*schemaNode]bool{})
	slices.Sort(missing)
	for _, setting := range missing {
		t.Errorf("deploy/examples/complete.yaml does not have %s", strings.TrimPrefix(setting, "."))
	}
	if len(o.found) < 50 {
		t.Errorf("the walk met %d mappings, which cannot be all", len(o.found))
	}
}

// TestCompleteExampleIsSound: as it stands there is no mistake in it, and with the alternatives in force no other than
// that there are two of what may be there once.
func TestCompleteExampleIsSound(t *testing.T) {
	t.Parallel()
	if _, stderr, code := run("validate", "--strict", "--no-env", completeExample); code != 0 {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
	text, err := os.ReadFile(completeExample)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, alternative.ReplaceAll(text, []byte("$1")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run("validate", "--no-env", path)
	for line := range strings.Lines(stderr) {
		if !strings.Contains(line, "exactly one of") {
			t.Error(line)
		}
	}
	if code != 2 || stderr == "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

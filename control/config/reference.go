package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// referenceColumns is how wide the reference is.
const referenceColumns = 118

// referenceHead is the beginning of the page; what is code stands between quotes here.
// referenceHead is the beginning of the page; what is code stands between quotes here.
const referenceHead = `# Configuration reference

Every setting of the configuration file, with its type, default, range and meaning. This page is made from the schema;
do not edit it: 'make reference' writes it anew, and a test fails when it is out of date. The same as a file with every
setting in it: [deploy/examples/complete.yaml](../deploy/examples/complete.yaml). Editors take the JSON Schema that
'sluice schema' prints.

- An unknown key, a wrong type, a value out of range and a name that leads nowhere are mistakes. They are told with
  file, line and column, all at once: 'sluice validate FILE'. A section that is not written is off, unless this page
  has a default for it.
- A **duration** is written '250ms', '10s', '1m30s', '24h'; a **size** '64KiB', '8MiB'; a **rate** '100/s', '20/m',
  '5/h'; a **share** '50%'; a **status** '404', or '5xx' for all of a hundred.
- A **reference** names a part of the request: 'principal', 'client.ip', 'host', 'route', 'method', 'path',
  'path.NAME', 'query', 'query.NAME', 'header.NAME', 'body', 'body.A.B', and in the steps of a transaction 'gid' and
  'steps.NAME.A.B'. A **template** is a text with references in braces.
- '${env:NAME}', '${env:NAME:-default}' and '${file:PATH}' stand for what a variable or a file holds. Relative paths
  are taken from the folder of the configuration.
- Keys at the top that begin with 'x-' are free, for anchors.
`

// Reference returns the reference of all settings, in Markdown, made from the schema.
func Reference() string {
	s := reflectSchema(reflect.TypeFor[Config]())
	r := &reference{definitions: s.Definitions, at: map[string]string{}}
	r.text.WriteString(strings.ReplaceAll(referenceHead, "'", "`"))
	r.section("", s.Definitions["Config"])
	return r.text.String()
}

// reference is the page while it is made.
type reference struct {
	definitions jsonschema.Definitions
	at          map[string]string // where a definition has been described, by its name
	text        strings.Builder
}

// mappingOf is a mapping of settings below another one.
type mappingOf struct {
	path string
	name string // of its definition; empty: it has none
	of   *jsonschema.Schema
}

// section describes the settings of a mapping, and below it those of the mappings in it.
func (r *reference) section(path string, s *jsonschema.Schema) {
	if path != "" {
		depth := strings.Count(strings.ReplaceAll(path, ".NAME", ""), ".")
		fmt.Fprintf(&r.text, "\n%s `%s`\n\n", strings.Repeat("#", min(2+depth, 4)), path)
		if s.Description != "" {
			r.wrap("", sentence(s.Description))
			r.text.WriteByte('\n')
		}
	} else {
		fmt.Fprint(&r.text, "\n## The top\n\n")
	}
	var below []mappingOf
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		if p.Value.Ref == "#/$defs/Unsupported" {
			continue
		}
		at := strings.TrimPrefix(path+"."+p.Key, ".")
		inner := r.below(at, p.Value)
		r.setting(p.Key, p.Value, slices.Contains(s.Required, p.Key), inner)
		if inner != nil && r.at[inner.name] == "" {
			if inner.name != "" {
				r.at[inner.name] = inner.path
			}
			below = append(below, *inner)
		}
	}
	for _, m := range below {
		r.section(m.path, m.of)
	}
}

// resolve follows a reference within the schema; name is that of the definition.
func (r *reference) resolve(s *jsonschema.Schema) (of *jsonschema.Schema, name string) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return r.definitions[name], name
	}
	return s, ""
}

// below returns the mapping of settings that a setting holds, by itself, in a list or by name; nil: none.
func (r *reference) below(path string, s *jsonschema.Schema) *mappingOf {
	of, name := r.resolve(s)
	switch {
	case of.Else != nil && of.Else.Properties != nil && of.Else.Properties.Len() > 0: // or a word
		of = of.Else
	case of.Type == "array" && of.Items != nil:
		return r.below(path+"[]", of.Items)
	case of.Type == "object" && of.AdditionalProperties != nil && of.AdditionalProperties.Ref != "":
		return r.below(path+".NAME", of.AdditionalProperties)
	}
	if of.Properties == nil || of.Properties.Len() == 0 {
		return nil
	}
	return &mappingOf{path, name, of}
}

// setting writes the entry of one setting.
func (r *reference) setting(key string, s *jsonschema.Schema, required bool, inner *mappingOf) {
	facts := []string{r.typeOf(s)}
	facts = append(facts, rangeOf(s)...)
	of, _ := r.resolve(s)
	facts = append(facts, rangeOf(of)...)
	switch value := s.Default; {
	case required:
		facts = append(facts, "required")
	case value != nil:
		facts = append(facts, "default "+code(value))
	case of.Type == "boolean":
		facts = append(facts, "default `false`")
	}
	text := fmt.Sprintf("- **`%s`** (%s)", key, strings.Join(slices.Compact(facts), "; "))
	if meaning := meaningOf(s, of); meaning != "" {
		text += ": " + sentence(meaning)
	}
	if inner != nil {
		at := inner.path
		if known := r.at[inner.name]; known != "" {
			at = known
		}
		text += " See [" + at + "](#" + anchor(at) + ")."
	}
	r.wrap("  ", text)
}

// meaningOf is what a setting means; that of a type says only how it is written.
func meaningOf(s, of *jsonschema.Schema) string {
	if s.Description != "" {
		return s.Description
	}
	return of.Description
}

// typeNames are the types that are written as text, by their definition.
var typeNames = map[string]string{
	"Duration": "duration", "Size": "size", "ByteRate": "size a second", "Rate": "rate", "Percent": "share",
	"StatusRange": "status", "Ref": "reference", "Template": "template", "Instant": "time",
	"KubernetesPort": "name or number", "HedgeAfter": "percentile or duration",
}

// typeOf says in words what a setting is.
func (r *reference) typeOf(s *jsonschema.Schema) string {
	of, name := r.resolve(s)
	if text := typeNames[name]; text != "" {
		return text
	}
	switch {
	case len(of.Enum) > 0:
		return oneOf(of.Enum)
	case of.If != nil:
		return of.Description
	case of.Type == "array":
		return "list of " + plural(r.typeOf(of.Items))
	case of.Type == "object" && of.AdditionalProperties != nil && (of.Properties == nil || of.Properties.Len() == 0):
		if of.AdditionalProperties.Ref == "" && of.AdditionalProperties.Type == "" {
			return "mapping"
		}
		return "mapping of names to " + plural(r.typeOf(of.AdditionalProperties))
	case of.Type == "object":
		return "mapping"
	case of.Type == "integer":
		return "number"
	case of.Type == "boolean":
		return "true or false"
	case of.Type == "string":
		return "text"
	}
	return "any value"
}

func plural(text string) string {
	switch {
	case strings.HasPrefix(text, "one of"):
		return strings.TrimPrefix(text, "one of ")
	case strings.HasSuffix(text, "s"):
		return text + "es"
	case strings.Contains(text, " "):
		return text
	}
	return text + "s"
}

func oneOf(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = code(v)
	}
	if len(words) == 1 {
		return words[0]
	}
	return "one of " + strings.Join(words, ", ")
}

// rangeOf says within what a value may be.
func rangeOf(s *jsonschema.Schema) (facts []string) {
	least, most := fmt.Sprint(s.Minimum), fmt.Sprint(s.Maximum)
	if text, ok := s.Extras[leastKeyword].(string); ok {
		least = text
	}
	if text, ok := s.Extras[mostKeyword].(string); ok {
		most = text
	}
	switch {
	case least != "" && most != "":
		facts = append(facts, least+" to "+most)
	case least != "":
		facts = append(facts, "at least "+least)
	case most != "":
		facts = append(facts, "at most "+most)
	}
	if s.MinItems != nil && *s.MinItems > 0 && s.MaxItems != nil {
		facts = append(facts, fmt.Sprintf("%d to %d of them", *s.MinItems, *s.MaxItems))
	} else if s.MinItems != nil && *s.MinItems > 0 {
		facts = append(facts, fmt.Sprintf("at least %d", *s.MinItems))
	}
	if s.MaxLength != nil {
		facts = append(facts, fmt.Sprintf("at most %d characters", *s.MaxLength))
	}
	return facts
}

// code writes a value as it is written in a configuration.
func code(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	text := strings.ReplaceAll(string(b), ",", ", ")
	if plain, ok := strings.CutPrefix(text, `"`); ok {
		text = strings.TrimSuffix(plain, `"`)
	}
	return "`" + text + "`"
}

func sentence(text string) string {
	if text = strings.TrimSpace(text); strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

// anchor is the fragment that Markdown makes of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, heading)
}

// wrap writes a paragraph in lines that fit; those behind the first are indented.
func (r *reference) wrap(indent, text string) {
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > referenceColumns:
			r.text.WriteString("\n" + indent)
			column = len(indent)
		default:
			r.text.WriteByte(' ')
			column++
		}
		r.text.WriteString(word)
		column += len(word)
	}
	r.text.WriteByte('\n')
}

package config

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Format returns a document in its usual form: the keys in the order of the reference, two spaces for each level, a
// list or mapping in brackets on one line if it fits there, texts with braces in quotes, units as they are usually
// written. Comments and empty lines stay with what they stand at. The document means the same, which is checked, and
// its usual form is its own usual form. A file whose name ends in .json stays JSON.
//
// The error is a [*FaultsError] for a text that is not YAML. What else is wrong with the document does not matter here.
func Format(name string, data []byte) ([]byte, error) {
	faults := new(faultList)
	before := formatted(name, data, faults)
	if err := faults.err(); err != nil {
		return nil, err
	}
	if filepath.Ext(name) == ".json" {
		if !json.Valid(data) {
			faults.add(position{name, 1, 1}, "the file is YAML and its name says JSON: name it .yaml")
			return nil, faults.err()
		}
		return formatJSON(before.root), nil
	}
	for _, sorted := range []bool{true, false} {
		if sorted && !before.sort() {
			continue // an alias would stand before its anchor
		}
		if !sorted {
			before = formatted(name, data, faults)
		}
		out := before.write()
		if before.same(name, out) {
			return out, nil
		}
	}
	faults.add(position{name, 1, 1}, "cannot be formatted without a change of its meaning; please report it")
	return nil, faults.err()
}

// document to be formatted.
type formatter struct {
	lines    []string // of the source
	comments []comment
	root     *formatNode    // nil: there is nothing but comments
	all      []*formatEntry // in the order of the source, an outer one before those in it
	head     []string       // comments above everything
	value    *node          // what it means
}

// formatNode is a value of the document.
type formatNode struct {
	from    *yaml.Node
	model   reflect.Type // of the setting
	flow    bool         // in brackets
	depth   int          // brackets around its entries, its own among them
	entries []*formatEntry
	of      *formatEntry // nil at the top
	tail    []string     // comments behind the last entry
}

// formatEntry is a member of a mapping or an item of a list.
type formatEntry struct {
	in       *formatNode
	key      *yaml.Node // nil in a list
	value    *formatNode
	at       mark
	head     []string // comments above, "" is an empty line
	blank    bool     // an empty line above all
	trailing *comment
}

// comment is one of the source, from its # to the end of its line.
type comment struct {
	at     mark
	depth  int // brackets that are open
	own    bool
	text   string
	indent int // of its line
}

// formatted reads a document. What is wrong with it is added to the faults.
func formatted(name string, data []byte, faults *faultList) *formatter {
	r := &reader{file: name, faults: faults, expand: func(n *node, text string) { n.scalar = text }}
	value := r.document(data)
	if value == nil || len(faults.list) > 0 {
		if len(faults.list) == 0 {
			faults.add(position{name, 1, 1}, "cannot be read")
		}
		return nil
	}
	if value.kind != mappingNode {
		faults.add(value.pos, "a configuration is a mapping, this is %s", value.redacted())
		return nil
	}
	text := &outline{keepComments: true}
	text.scan(r.text.parsed)
	f := &formatter{lines: text.lines, comments: text.comments, value: value}
	f.comments = slices.DeleteFunc(f.comments, func(c comment) bool { // of a directive nothing is left
		return strings.HasPrefix(r.text.lines[c.at.line-1], "%")
	})
	documents, err := parse(r.text.parsed, nil)
	if err != nil || text.unclosed { // it has been read before: it would be a bug
		faults.add(position{name, 1, 1}, "cannot be formatted")
		return nil
	}
	if len(documents) == 1 && documents[0].Kind == yaml.MappingNode {
		f.root = f.node(documents[0], reflect.TypeFor[Config](), nil)
	}
	f.assign()
	return f
}

// node makes the tree of a value.
func (f *formatter) node(from *yaml.Node, model reflect.Type, of *formatEntry) *formatNode {
	n := &formatNode{from: from, model: pointed(model), of: of, flow: from.Style&yaml.FlowStyle != 0}
	if of != nil {
		n.depth = of.in.depth
	}
	if n.flow {
		n.depth++
	}
	if u, ok := asUnion(n.model); ok && u.value() != nil {
		n.model = pointed(reflect.TypeOf(u.value()))
	}
	switch from.Kind {
	case yaml.ScalarNode:
		from.Value = usualUnit(from.Value, n.model)
	case yaml.MappingNode:
		for i := 0; i+1 < len(from.Content); i += 2 {
			f.entry(n, from.Content[i], from.Content[i+1])
		}
	case yaml.SequenceNode:
		for _, item := range from.Content {
			f.entry(n, nil, item)
		}
	}
	return n
}

func (f *formatter) entry(n *formatNode, key, value *yaml.Node) {
	at, model := value, reflect.TypeFor[any]()
	if key != nil {
		at = key
	}
	switch {
	case n.model.Kind() == reflect.Slice && key == nil, n.model.Kind() == reflect.Map && key != nil:
		model = n.model.Elem()
	case n.model.Kind() == reflect.Struct && key != nil:
		if field, ok := fieldAt(n.model, []string{key.Value}); ok {
			model = field.Type
		}
	}
	e := &formatEntry{in: n, key: key, at: mark{at.Line, at.Column}}
	n.entries, f.all = append(n.entries, e), append(f.all, e)
	e.value = f.node(value, model, e)
}

// sort brings the keys of all sections in their usual order; false when an alias would then come before its anchor.
func (f *formatter) sort() bool {
	if f.root == nil {
		return true
	}
	f.root.sort()
	seen := map[string]bool{}
	return f.root.defined(seen)
}

func (n *formatNode) sort() {
	if n.from.Kind == yaml.MappingNode && n.model.Kind() == reflect.Struct {
		slices.SortStableFunc(n.entries, func(a, b *formatEntry) int {
			return keyPlace(n.model, a.key.Value) - keyPlace(n.model, b.key.Value)
		})
	}
	for _, e := range n.entries {
		e.value.sort()
	}
}

// defined reports whether each alias stands behind its anchor, and no anchor is given twice.
func (n *formatNode) defined(seen map[string]bool) bool {
	if n.from.Kind == yaml.AliasNode && !seen[n.from.Value] {
		return false
	}
	if name := n.from.Anchor; name != "" {
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	for _, e := range n.entries {
		if !e.value.defined(seen) {
			return false
		}
	}
	return true
}

// same reports whether another text has the same meaning and the same comments.
func (f *formatter) same(name string, out []byte) bool {
	faults := new(faultList)
	after := formatted(name, out, faults)
	if after == nil {
		return false
	}
	model := reflect.TypeFor[Config]()
	before := usualUnits(f.value, model)
	return reflect.DeepEqual(before, usualUnits(after.value, model)) &&
		slices.Equal(commentTexts(f.comments), commentTexts(after.comments))
}

func commentTexts(list []comment) []string {
	texts := make([]string, len(list))
	for i, c := range list {
		texts[i] = c.text
	}
	slices.Sort(texts)
	return texts
}

// formatJSON writes the tree as JSON with the keys in their usual order.
func formatJSON(root *formatNode) []byte {
	var b bytes.Buffer
	if root == nil {
		return []byte("{}\n")
	}
	root.sort()
	root.json(&b, "\n")
	b.WriteByte('\n')
	return b.Bytes()
}

func (n *formatNode) json(b *bytes.Buffer, line string) {
	open, end := "{", "}"
	switch n.from.Kind {
	case yaml.ScalarNode:
		if n.from.Style == 0 { // a number, true, false or null
			b.WriteString(n.from.Value)
			return
		}
		jsonText(b, n.from.Value)
		return
	case yaml.SequenceNode:
		open, end = "[", "]"
	}
	b.WriteString(open)
	for i, e := range n.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(line + "  ")
		if e.key != nil {
			jsonText(b, e.key.Value)
			b.WriteString(": ")
		}
		e.value.json(b, line+"  ")
	}
	if len(n.entries) > 0 {
		b.WriteString(line)
	}
	b.WriteString(end)
}

// jsonText writes a text as JSON, with < and > as they are.
func jsonText(b *bytes.Buffer, text string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // a text can be encoded
	}
	b.Truncate(b.Len() - 1) // the encoder ends the line
}

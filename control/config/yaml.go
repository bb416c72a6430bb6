package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// reader makes nodes from the YAML of one file.
type reader struct {
	file    string
	faults  *faultList
	expand  func(n *node, text string) // replaces ${…} in a string scalar
	text    *outline
	anchors map[string]*node // nil: not complete yet

	earlier int  // values of the documents before
	values  int  // of this one, aliases and merge keys written out
	stopped bool // a bound is passed, and told

	known map[string]*known // entries of lists that need not be parsed, by their text
	found int               // how many of those that were taken out of the text have come up
	lines int               // before the text, in its file
	step  func()            // lets others work; nil: nobody waits
}

// document reads the one document of a file; nil when its syntax is at fault. An empty file is an empty mapping.
func (r *reader) document(data []byte) *node {
	start := position{r.file, 1, 1}
	if len(data) > documentMax {
		r.faults.add(start, "the file has %d bytes, at most %d are read", len(data), documentMax)
		return nil
	}
	text, ok := r.decode(data)
	if !ok {
		return nil
	}
	r.text = outlineOf(text, r.known, r.step)
	if beyond := r.text.beyond; beyond != (mark{}) {
		r.tooMany(position{r.file, beyond.line, beyond.column})
		return nil
	}
	documents, err := parse(r.text.parsed, r.step)
	if err != nil {
		r.syntax(err)
		return nil
	}
	if r.text.refuse {
		r.faults.add(position{r.file, r.text.tab.line, r.text.tab.column}, "%s", tabMessage)
		return nil
	}
	empty := &node{kind: mappingNode, pos: start, size: 1}
	switch len(documents) {
	case 0:
		return empty
	case 1:
	default:
		r.faults.add(r.place(documents[1]), "a second document: one file holds one")
		return nil
	}
	r.anchors = map[string]*node{}
	n := r.node(documents[0])
	if r.stopped {
		return nil
	}
	if n.kind == scalarNode && n.scalar == nil && !n.broken {
		return empty
	}
	return n
}

// parse returns the documents of a text that hold something.
func parse(text string, step func()) ([]*yaml.Node, error) {
	loader, err := yaml.NewLoader(&steppedReader{strings.NewReader(text), step}, yaml.WithPlugin(
		loaderlimits.New(loaderlimits.DepthFunc(checkDepth), loaderlimits.AliasNone()), anchorPlugin{}))
	if err != nil {
		return nil, err
	}
	var documents []*yaml.Node
	for {
		var document yaml.Node
		switch err := loader.Load(&document); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, err
		}
		for _, content := range document.Content {
			if !isEmpty(content) || content.Value != "" {
				documents = append(documents, content)
			}
		}
	}
}

// steppedReader lets others work while the library parses what it reads.
type steppedReader struct {
	text *strings.Reader
	step func()
}

func (r *steppedReader) Read(b []byte) (int, error) {
	if r.step != nil {
		r.step()
	}
	return r.text.Read(b[:min(len(b), 256)])
}

var errTooDeep = fmt.Errorf("nested deeper than %d", flowDepthMax)

func checkDepth(depth int, _ *yaml.DepthContext) error {
	if depth > flowDepthMax {
		return errTooDeep
	}
	return nil
}

// anchorPlugin lets a document with an alias that has no anchor be parsed, so that this is one fault among all.
type anchorPlugin struct{}

// NewAliasDataContext implements [yaml.AliasDataPlugin].
func (anchorPlugin) NewAliasDataContext(yaml.AliasDataServices) (yaml.AliasDataContext, error) {
	return &anchorContext{}, nil
}

type anchorContext struct{ anchors map[string]*yaml.Node }

func (c *anchorContext) BeginDocument() error {
	c.anchors = map[string]*yaml.Node{}
	return nil
}

func (c *anchorContext) DefineAnchor(name string, n *yaml.Node) error {
	c.anchors[name] = n
	return nil
}

func (c *anchorContext) ResolveAlias(name string) (n *yaml.Node, found bool, err error) {
	if n := c.anchors[name]; n != nil {
		return n, true, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, true, nil
}

func (c *anchorContext) EndDocument() error { return nil }

func (r *reader) place(n *yaml.Node) position {
	at := r.text.written(mark{n.Line, n.Column})
	return position{r.file, at.line + r.lines, at.column}
}

func (r *reader) broken(n *node, format string, args ...any) *node {
	n.broken = true
	r.faults.add(n.pos, format, args...)
	return n
}

// count counts values that are made, or that an alias stands for. False: they are too many, and no more are made.
func (r *reader) count(n int, at position) bool {
	r.values = sum(r.values, n)
	if r.values > min(valuesMax, valuesAllMax-r.earlier) && !r.stopped {
		r.tooMany(at)
	}
	return !r.stopped
}

func (r *reader) tooMany(at position) {
	r.stopped = true
	r.faults.add(at, "the file has more values than are read: %d with its aliases and merge keys written out, "+
		"and %d in all files", valuesMax, valuesAllMax)
}

// holds notes that a value is a part of another.
func (r *reader) holds(n, part *node) {
	n.size = sum(n.size, part.size)
	n.depth = max(n.depth, part.depth+1)
	if n.depth > depthMax && !r.stopped {
		r.stopped = true
		r.faults.add(n.pos, "nested deeper than %d with its aliases written out", depthMax)
	}
}

func (r *reader) node(from *yaml.Node) *node {
	if r.stopped || !r.count(1, r.place(from)) {
		return &node{pos: r.place(from), size: 1, broken: true}
	}
	if from.Anchor != "" {
		name := from.Anchor
		anchored := *from
		anchored.Anchor = ""
		if isEmpty(&anchored) {
			return r.broken(&node{pos: r.place(from), size: 1}, "&%s: an anchor without a value", name)
		}
		r.skipAnchor(&anchored, name)
		r.anchors[name] = nil
		n := r.node(&anchored)
		r.anchors[name] = n
		return n
	}
	if r.step != nil {
		r.step()
	}
	n := &node{pos: r.place(from), size: 1}
	if isTagged(from) {
		return r.broken(n, "%s: tags are not part of a configuration", from.Tag)
	}
	switch from.Kind {
	case yaml.MappingNode:
		r.mapping(n, from)
	case yaml.SequenceNode:
		n.kind = listNode
		for _, value := range from.Content {
			if r.stopped {
				break
			}
			if value.Kind == yaml.ScalarNode && value.Style == 0 && len(r.text.runs) > 0 {
				if run, ok := r.text.standsIn(value.Line, value.Column, value.Value); ok {
					r.share(n, run)
					continue
				}
			}
			item := r.node(value)
			n.items = append(n.items, item)
			r.holds(n, item)
		}
	case yaml.AliasNode:
		target, known := r.anchors[from.Value]
		switch {
		case !known:
			return r.broken(n, "*%s: there is no anchor of that name before it", from.Value)
		case target == nil:
			return r.broken(n, "*%s: stands inside its own anchor", from.Value)
		}
		r.count(target.size-1, n.pos)
		return target
	case yaml.ScalarNode:
		if from.Style != 0 {
			r.expand(n, from.Value)
		} else {
			r.plain(n, from.Value)
		}
	default:
		r.broken(n, "is not part of a configuration")
	}
	return n
}

// skipAnchor moves a node's place from its anchor to the value itself where that stands on the same line.
func (r *reader) skipAnchor(n *yaml.Node, name string) {
	line := r.text.line(n.Line)
	for n.Column <= len(line) && line[n.Column-1] == '&' {
		at := n.Column + len([]rune(name)) // of the last character of the anchor's name
		for at < len(line) && (line[at] == ' ' || line[at] == '\t') {
			at++
		}
		if at >= len(line) || line[at] == '#' {
			return
		}
		n.Column = at + 1
	}
}

func isTagged(n *yaml.Node) bool { return n.Style&yaml.TaggedStyle != 0 || n.Tag == "!" }

// isEmpty reports whether a node is a scalar that is not written.
func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style == 0 && n.Anchor == "" && !isTagged(n)
}

// The plain scalars that stand for nothing, and those for numbers that no setting takes.
var (
	nulls      = []string{"", "~", "null", "Null", "NULL"}
	notNumbers = []string{".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"}
)

// plain sets the value of a scalar without quotes: the core schema of YAML 1.2 (§10.3.2) and a few forms of 1.1's
// numbers.
func (r *reader) plain(n *node, text string) {
	switch {
	case slices.Contains(nulls, text):
		return
	case slices.Contains(notNumbers, text):
		r.broken(n, "%s: is not a number", text)
		return
	}
	switch text {
	case "true", "True", "TRUE":
		n.scalar = true
		return
	case "false", "False", "FALSE":
		n.scalar = false
		return
	}
	number, err := parseNumber(text)
	switch {
	case errors.Is(err, strconv.ErrRange):
		r.broken(n, "%s: is not a number", text)
	case err != nil:
		r.expand(n, text)
	case len(text) > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9' && !strings.Contains(text, "."):
		r.broken(n, "%s: a number with a leading zero is ambiguous: leave the zero out, or quote the text", text)
	default:
		n.scalar = number
	}
}

var errNoNumber = errors.New("not a number")

// parseNumber reads an integer, in another base too (0x1F, 0o17, 0b11), or a number with a point. The error is
// errNoNumber for a text, [strconv.ErrRange] for a number that is too large.
func parseNumber(text string) (json.Number, error) {
	points := strings.Count(text, ".")
	if text == "" || text[0] == '_' || points > 1 {
		return "", errNoNumber
	}
	digits := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(text, "+"), "-"), "_", "")
	sign := ""
	if text[0] == '-' {
		sign = "-"
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"):
		digits, base = digits[2:], 16
	case strings.HasPrefix(digits, "0o"):
		digits, base = digits[2:], 8
	case strings.HasPrefix(digits, "0b"):
		digits, base = digits[2:], 2
	case points == 0 && strings.HasPrefix(digits, "0") && len(digits) > 1:
		base = 8
	case points == 1:
		f, err := strconv.ParseFloat(sign+digits, 64)
		if err != nil {
			return "", numberError(err)
		}
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return "", strconv.ErrRange
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
	}
	if sign == "" {
		u, err := strconv.ParseUint(digits, base, 64)
		return json.Number(strconv.FormatUint(u, 10)), numberError(err)
	}
	i, err := strconv.ParseInt(sign+digits, base, 64)
	return json.Number(strconv.FormatInt(i, 10)), numberError(err)
}

func numberError(err error) error {
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return err
	}
	return errNoNumber
}

func (r *reader) mapping(n *node, from *yaml.Node) {
	n.kind = mappingNode
	if from.Style&yaml.FlowStyle == 0 && len(from.Content) > 0 {
		n.pos = r.place(from.Content[0])
	}
	var merged []*node
	for i := 0; i+1 < len(from.Content) && !r.stopped; i += 2 {
		key, value := from.Content[i], from.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.Style == 0 && key.Value == "<<" {
			merged = append(merged, r.merges(key, value)...)
			continue
		}
		m := &member{pos: r.place(key), value: r.node(value)}
		r.holds(n, m.value)
		if !isName(key) {
			r.faults.add(m.pos, "a key is text")
			continue
		}
		if len(key.Value) > keyMax {
			r.faults.add(m.pos, "a key of %d bytes, at most %d are read", len(key.Value), keyMax)
			continue
		}
		m.name = key.Value
		if !n.add(m) {
			r.faults.add(m.pos, "%s: given twice, first in line %d", m.name, n.member(m.name).pos.line)
		}
	}
	for _, from := range merged { // what is written here wins, then the first that is merged
		for _, m := range from.members {
			size := 1 // to look whether it is there takes its time too
			if n.add(m) {
				r.holds(n, m.value)
				size = m.value.size
			}
			if !r.count(size, n.pos) {
				return
			}
		}
	}
}

// isName reports whether a node can be a key: a text, or a number or truth value as it is written.
func isName(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode || isTagged(n) || n.Anchor != "" {
		return false
	}
	return n.Style != 0 || !slices.Contains(nulls, n.Value) && !slices.Contains(notNumbers, n.Value)
}

// merges returns the mappings that a merge key names.
func (r *reader) merges(key, from *yaml.Node) []*node {
	before := r.values
	value := r.node(from)
	r.values = before // what is merged of it is counted then
	list := []*node{value}
	if value.kind == listNode {
		list = value.items
	}
	if slices.ContainsFunc(list, func(n *node) bool { return n.kind != mappingNode && !n.broken }) {
		r.faults.add(r.place(key), "<<: only mappings can be merged")
	}
	return list
}

// sum adds two sizes without running over.
func sum(a, b int) int { return min(a+b, math.MaxInt32) }

package config

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of one document, so that no text makes the parser run out of memory or stack.
const (
	documentMax = 1 << 20 // bytes
	depthMax    = 64      // nested lists and mappings
	nodesMax    = 100_000 // values, with aliases written out
)

// reader makes nodes from the YAML of one file.
type reader struct {
	file    string
	faults  *faultList
	fill    func(n *node, text string) // replaces ${…} in a string scalar
	anchors map[string]*node           // nil: not complete yet
}

// document reads the one document of a file; nil when its syntax is at fault. An empty file is an empty mapping.
func (r *reader) document(data []byte) *node {
	start := position{r.file, 1, 1}
	empty := &node{kind: mappingNode, pos: start, size: 1}
	if len(data) > documentMax {
		r.faults.add(start, "the file has %d bytes, at most %d are read", len(data), documentMax)
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if tk := tooDeep(tokens); tk != nil {
		r.faults.add(r.place(tk), "nested deeper than %d", depthMax)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		if e, ok := errors.AsType[yaml.Error](err); ok {
			r.faults.add(r.place(e.GetToken()), "syntax: %s", e.GetMessage())
		} else {
			r.faults.add(start, "syntax: %v", err)
		}
		return nil
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.DirectiveType && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return empty
	case 1:
	default:
		r.faults.add(r.place(bodies[1].GetToken()), "a second document: one file holds one")
		return nil
	}
	r.anchors = map[string]*node{}
	n := r.node(bodies[0])
	if n.size > nodesMax {
		r.faults.add(start, "the file has %d values with its aliases written out, at most %d are read", n.size, nodesMax)
		return nil
	}
	if n.kind == scalarNode && n.scalar == nil && !n.broken {
		return empty
	}
	return n
}

// tooDeep returns the token at which the parser would nest too deep. The parser recurses for each flow bracket, and for each
// of the indicators that may follow one another on a line.
func tooDeep(tokens token.Tokens) *token.Token {
	flow, run, columns := 0, 0, []int(nil)
	for _, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
			run = 0
		case token.MappingEndType, token.SequenceEndType:
			flow--
			run = 0
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			run++
		default:
			run = 0
		}
		if flow <= 0 && tk.Position != nil { // block nesting is a stack of growing columns
			for len(columns) > 0 && columns[len(columns)-1] >= tk.Position.Column {
				columns = columns[:len(columns)-1]
			}
			if tk.Prev == nil || tk.Prev.Position == nil || tk.Prev.Position.Line != tk.Position.Line {
				columns = append(columns, tk.Position.Column)
			}
		}
		if flow > depthMax || run > depthMax || len(columns) > depthMax {
			return tk
		}
	}
	return nil
}

func (r *reader) place(tk *token.Token) position {
	if tk == nil || tk.Position == nil || tk.Position.Line < 1 {
		return position{r.file, 1, 1}
	}
	return position{r.file, tk.Position.Line, max(tk.Position.Column, 1)}
}

func (r *reader) broken(n *node, format string, args ...any) *node {
	n.broken = true
	r.faults.add(n.pos, format, args...)
	return n
}

func (r *reader) node(from ast.Node) *node {
	if from == nil {
		return &node{pos: position{r.file, 1, 1}, size: 1}
	}
	n := &node{pos: r.place(from.GetToken()), size: 1}
	switch v := from.(type) {
	case *ast.MappingNode:
		r.mapping(n, v.Values, v.IsFlowStyle)
	case *ast.MappingValueNode:
		r.mapping(n, []*ast.MappingValueNode{v}, v.IsFlowStyle)
	case *ast.SequenceNode:
		n.kind = listNode
		for _, value := range v.Values {
			item := r.node(value)
			n.items = append(n.items, item)
			n.size = sum(n.size, item.size)
		}
	case *ast.AnchorNode:
		name := v.Name.GetToken().Value
		r.anchors[name] = nil
		n = r.node(v.Value)
		r.anchors[name] = n
	case *ast.AliasNode:
		name := v.Value.GetToken().Value
		target, known := r.anchors[name]
		switch {
		case !known:
			return r.broken(n, "*%s: there is no anchor of that name before it", name)
		case target == nil:
			return r.broken(n, "*%s: stands inside its own anchor", name)
		}
		return target
	default:
		r.scalar(n, from)
	}
	return n
}

func (r *reader) scalar(n *node, from ast.Node) {
	switch v := from.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		n.scalar = v.Value
	case *ast.StringNode:
		r.fill(n, v.Value)
	case *ast.LiteralNode:
		r.fill(n, v.Value.Value)
	case *ast.IntegerNode:
		digits := v.Token.Value
		if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
			r.broken(n, "%s: a number with a leading zero is ambiguous: leave the zero out, or quote the text", digits)
			return
		}
		switch i := v.Value.(type) {
		case int64:
			n.scalar = json.Number(strconv.FormatInt(i, 10))
		case uint64:
			n.scalar = json.Number(strconv.FormatUint(i, 10))
		default:
			r.broken(n, "%s: is not a number", digits)
		}
	case *ast.FloatNode:
		if math.IsInf(v.Value, 0) || math.IsNaN(v.Value) {
			r.broken(n, "%s: is not a number", v.Token.Value)
			return
		}
		n.scalar = json.Number(strconv.FormatFloat(v.Value, 'g', -1, 64))
	case *ast.TagNode:
		r.broken(n, "%s: tags are not part of a configuration", v.Start.Value)
	default:
		r.broken(n, "%s: is not part of a configuration", from.Type())
	}
}

func (r *reader) mapping(n *node, values []*ast.MappingValueNode, flow bool) {
	n.kind = mappingNode
	if !flow && len(values) > 0 {
		n.pos = r.place(values[0].Key.GetToken())
	}
	var merged []*node
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, r.merges(v)...)
			continue
		}
		m := &member{pos: r.place(v.Key.GetToken()), value: r.node(v.Value)}
		n.size = sum(n.size, m.value.size)
		name, ok := keyName(v.Key)
		if !ok {
			r.faults.add(m.pos, "a key is text")
			continue
		}
		m.name = name
		if !n.add(m) {
			r.faults.add(m.pos, "%s: given twice, first in line %d", name, n.byName[name].pos.line)
		}
	}
	for _, from := range merged { // what is written here wins, then the first that is merged
		for _, m := range from.members {
			if n.add(m) {
				n.size = sum(n.size, m.value.size)
			}
		}
	}
}

// merges returns the mappings that a merge key names.
func (r *reader) merges(v *ast.MappingValueNode) []*node {
	value := r.node(v.Value)
	from := []*node{value}
	if value.kind == listNode {
		from = value.items
	}
	if slices.ContainsFunc(from, func(n *node) bool { return n.kind != mappingNode && !n.broken }) {
		r.faults.add(r.place(v.Key.GetToken()), "<<: only mappings can be merged")
	}
	return from
}

// keyName returns a key's text: a scalar as it is written.
func keyName(key ast.MapKeyNode) (string, bool) {
	switch k := key.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return k.GetToken().Value, true
	case *ast.MappingKeyNode:
		inner, ok := k.Value.(ast.MapKeyNode)
		if !ok {
			return "", false
		}
		return keyName(inner)
	}
	return "", false
}

// sum adds two sizes without running over.
func sum(a, b int) int { return min(a+b, math.MaxInt32) }

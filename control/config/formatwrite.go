package config

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const (
	// formatWidth is how long a line may be that has a list or mapping in brackets.
	formatWidth = 120
	formatStep  = 2 // spaces for each level
)

// formatWriter writes lines. What it writes has no NUL but before a comment that stands behind a value.
type formatWriter struct {
	bytes.Buffer
	source []string
}

// write returns the text of the tree.
func (f *formatter) write() []byte {
	w := &formatWriter{source: f.lines}
	w.lines(f.head, 0)
	if f.root != nil {
		if len(f.head) > 0 && len(f.root.entries) > 0 {
			f.root.entries[0].blank = false
			w.blank()
		}
		w.section(f.root, 0)
	}
	return w.placeComments()
}

// blank writes an empty line, unless one is written already.
func (w *formatWriter) blank() {
	if w.Len() > 0 && !bytes.HasSuffix(w.Bytes(), []byte("\n\n")) {
		w.WriteByte('\n')
	}
}

// lines writes comments on lines of their own.
func (w *formatWriter) lines(list []string, indent int) {
	for _, text := range list {
		if text == "" {
			w.blank()
			continue
		}
		w.indent(indent)
		w.WriteString(text + "\n")
	}
}

func (w *formatWriter) indent(n int) { w.WriteString(strings.Repeat(" ", n)) }

// section writes the entries of a mapping or list, each from its own line on.
func (w *formatWriter) section(n *formatNode, indent int) {
	for i, e := range n.entries {
		if i > 0 && e.blank {
			w.blank()
		}
		w.lines(e.head, indent)
		if e.key == nil {
			w.item(e, indent)
			continue
		}
		w.indent(indent)
		key := scalarText(e.key)
		w.WriteString(key + ":")
		w.value(e, indent, indent+utf8.RuneCountInString(key)+len(": "))
	}
	w.lines(n.tail, indent)
}

// item writes an entry of a list behind its dash. A section begins on the same line.
func (w *formatWriter) item(e *formatEntry, indent int) {
	n := e.value
	_, short := n.brackets(formatWidth - indent - len("- "))
	if len(n.entries) == 0 || short || n.from.Anchor != "" {
		w.indent(indent)
		w.WriteByte('-')
		w.value(e, indent, indent+len("- "))
		return
	}
	if e.trailing != nil {
		w.lines([]string{e.trailing.text}, indent)
	}
	w.lines(n.takeHead(), indent)
	inner := &formatWriter{source: w.source}
	inner.section(n, indent+formatStep)
	text := inner.Bytes()
	text[indent] = '-'
	w.Write(text)
}

// takeHead takes the comments that stand above the first entry of a section: where the section begins behind a dash,
// they stand above that.
func (n *formatNode) takeHead() []string {
	first := n.entries[0]
	list := first.head
	first.head, first.blank = nil, false
	if _, short := first.value.brackets(formatWidth); first.key == nil && len(first.value.entries) > 0 && !short {
		if first.trailing != nil && first.value.from.Anchor == "" {
			list = append(list, first.trailing.text)
			first.trailing = nil
		}
		list = append(list, first.value.takeHead()...)
	}
	return list
}

// value writes what stands behind a key or a dash, and ends the line. column is where it begins.
func (w *formatWriter) value(e *formatEntry, indent, column int) {
	n := e.value
	anchor := ""
	if n.from.Anchor != "" {
		anchor = " &" + n.from.Anchor
		column += len(anchor)
	}
	w.WriteString(anchor)
	switch text, short := n.brackets(formatWidth - column); {
	case text == "" && e.key == nil && n.from.Kind == yaml.ScalarNode && anchor == "": // the parser does not tell where
		w.WriteString(" null")
		w.end(e)
	case n.from.Kind == yaml.ScalarNode && isBlockStyle(n.from):
		w.block(n.from, e, indent)
		return
	case short || len(n.entries) == 0:
		if text != "" {
			w.WriteString(" " + text)
		}
		w.end(e)
	default:
		w.end(e)
		w.section(n, indent+formatStep)
		return
	}
	w.lines(n.tail, indent+formatStep)
}

// end ends a line, with the comment that stands on it.
func (w *formatWriter) end(e *formatEntry) {
	if c := e.trailing; c != nil {
		column := 0 // it had none: the line began otherwise
		before := []rune(w.source[c.at.line-1])[:max(0, e.at.column-1)]
		if c.at.line == e.at.line && strings.Trim(string(before), " -") == "" {
			column = c.at.column - 1 - c.indent
		}
		fmt.Fprintf(w, "\x00%d\x00%s", column, c.text)
	}
	w.WriteByte('\n')
}

// brackets returns a value on one line; false when it does not stand there, because it is in lines already, is too long
// or has comments in it.
func (n *formatNode) brackets(most int) (text string, ok bool) {
	switch n.from.Kind {
	case yaml.ScalarNode:
		return scalarText(n.from), true
	case yaml.AliasNode:
		return "*" + n.from.Value, true
	}
	if !n.flow && len(n.entries) > 0 {
		return "", false
	}
	open, end := "{", "}"
	if n.from.Kind == yaml.SequenceNode {
		open, end = "[", "]"
	}
	parts := make([]string, len(n.entries))
	for i, e := range n.entries {
		value, ok := e.value.brackets(most)
		if !ok || len(e.head) > 0 || e.trailing != nil {
			return "", false
		}
		if name := e.value.from.Anchor; name != "" {
			value = strings.TrimRight("&"+name+" "+value, " ")
		}
		if value == "" {
			value = "null"
		}
		if parts[i] = value; e.key != nil {
			parts[i] = scalarText(e.key) + ": " + value
		}
	}
	text = open + strings.Join(parts, ", ") + end
	return text, len(n.entries) == 0 || len(n.tail) == 0 && utf8.RuneCountInString(text) <= most
}

// placeComments brings comments that stand behind values to the column that they had from the beginning of the line, as
// far as there is room.
func (w *formatWriter) placeComments() []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(w.Bytes()) {
		parts := bytes.SplitN(line, []byte{0}, 3)
		if len(parts) < 3 {
			out.Write(line)
			continue
		}
		before := parts[0]
		indent := len(before) - len(bytes.TrimLeft(before, " "))
		column, err := strconv.Atoi(string(parts[1]))
		if err != nil {
			panic(err) // end has written it
		}
		out.Write(before)
		out.WriteString(strings.Repeat(" ", max(1, indent+column-utf8.RuneCount(before))))
		out.Write(parts[2])
	}
	return out.Bytes()
}

package config

import (
	"cmp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// assign gives each comment to the entry that it stands at: one behind a value to that, one on lines of its own to
// what follows, unless what follows is further out than it is indented. Then it ends the section that it stands in.
func (f *formatter) assign() {
	for i := range f.comments {
		c := &f.comments[i]
		if !c.own && f.trail(c) {
			continue
		}
		f.above(c)
	}
	for _, e := range f.all {
		if e.blank = f.isBlank(e.at.line - 1); len(e.head) > 0 {
			e.blank = e.head[0] == ""
			e.head = trimBlank(e.head, e.blank)
			if f.isBlank(e.at.line - 1) {
				e.head = append(e.head, "")
			}
		}
		e.value.tail = trimBlank(e.value.tail, false)
	}
	if f.root != nil {
		f.root.tail = trimBlank(f.root.tail, false)
		f.detach()
	}
}

// detach has comments at the top that an empty line parts from the first entry stay at the top.
func (f *formatter) detach() {
	if len(f.all) == 0 {
		return
	}
	first := f.all[0]
	for i := len(first.head) - 1; i >= 0; i-- {
		if first.head[i] == "" {
			f.head = append(f.head, first.head[:i]...)
			first.head, first.blank = first.head[i+1:], false
			return
		}
	}
}

// trimBlank drops the first empty line where it is told otherwise, and all but one of several in a row.
func trimBlank(list []string, toldOtherwise bool) []string {
	if toldOtherwise {
		list = list[1:]
	}
	return slices.CompactFunc(list, func(a, b string) bool { return a == "" && b == "" })
}

// isBlank reports whether a line of the source, counted from 1, has nothing on it; of a dash alone, whether the line
// above has.
func (f *formatter) isBlank(line int) bool {
	for ; line >= 1; line-- {
		switch text := strings.TrimSpace(f.lines[line-1]); {
		case text == "":
			return true
		case strings.Trim(text, "- ") != "":
			return false
		}
	}
	return false
}

// trail gives a comment to the last entry that begins before it, of those that are not in brackets which are closed.
func (f *formatter) trail(c *comment) bool {
	line := []rune(f.lines[c.at.line-1])
	if strings.Trim(string(line[:c.at.column-1]), "-? \t.") == "" {
		return false // behind the dash of an item, or the marks of a document
	}
	for _, e := range slices.Backward(f.all) {
		if compareMarks(e.at, c.at) < 0 && e.in.depth <= c.depth {
			if e.trailing != nil {
				e.head = append(e.head, c.text)
			} else {
				e.trailing = c
			}
			return true
		}
	}
	return false
}

func compareMarks(a, b mark) int { return cmp.Or(a.line-b.line, a.column-b.column) }

// above gives a comment on a line of its own to what follows it, or to the end of the section that it is in.
func (f *formatter) above(c *comment) {
	i := slices.IndexFunc(f.all, func(e *formatEntry) bool { return e.at.line > c.at.line })
	var next *formatEntry
	if i >= 0 {
		next = f.all[i]
	}
	section := f.sectionOf(c, i)
	list := &f.head
	switch {
	case next != nil && (section == nil || !section.inside(next.in) || c.depth == 0 && f.behindDash(c)):
		list = &next.head
	case section != nil:
		list = &section.tail
	case f.root != nil:
		list = &f.root.tail
	}
	if f.isBlank(c.at.line - 1) {
		*list = append(*list, "")
	}
	*list = append(*list, c.text)
}

// behindDash reports whether a comment stands between the dash of an item and the item itself.
func (f *formatter) behindDash(c *comment) bool {
	for line := c.at.line - 1; line >= 1; line-- {
		text := strings.TrimSpace(f.lines[line-1])
		if text != "" && text[0] != '#' {
			text, _, _ = strings.Cut(text, "#")
			return strings.Trim(text, "- ") == ""
		}
	}
	return false
}

// sectionOf returns the innermost section that a comment can belong to by its indentation, or by the brackets around
// it; next is the index of the entry behind it, -1 for none.
func (f *formatter) sectionOf(c *comment, next int) *formatNode {
	before := f.all
	if next >= 0 {
		before = f.all[:next]
	}
	if c.depth > 0 {
		for _, e := range slices.Backward(f.all) {
			if n := e.value; n.flow && n.depth == c.depth && compareMarks(mark{n.from.Line, n.from.Column}, c.at) < 0 {
				return n
			}
		}
		return f.root
	}
	if len(before) == 0 {
		return nil
	}
	for n := before[len(before)-1].in; n != nil; n = n.outer() {
		if !n.flow && n.column() <= c.at.column {
			return n
		}
	}
	return f.root
}

// outer returns the section around one; nil at the top.
func (n *formatNode) outer() *formatNode {
	if n.of == nil {
		return nil
	}
	return n.of.in
}

// inside reports whether a section is within another one.
func (n *formatNode) inside(other *formatNode) bool {
	for n = n.outer(); n != nil; n = n.outer() {
		if n == other {
			return true
		}
	}
	return false
}

// column is where the entries of a section in lines begin: a list at its dashes.
func (n *formatNode) column() int {
	if n.from.Kind == yaml.SequenceNode || len(n.entries) == 0 {
		return n.from.Column
	}
	return n.entries[0].at.column
}

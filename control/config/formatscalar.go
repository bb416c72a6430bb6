package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// scalarText writes a scalar on one line. A text that was in quotes stays so, one with braces comes in quotes: it can
// then stand within braces too.
func scalarText(n *yaml.Node) string {
	if n.Style == 0 && !strings.ContainsAny(n.Value, "{}\n") {
		return n.Value
	}
	return quoted(n.Value)
}

// quoted writes a text in quotes: in single ones where it has double ones or backslashes and nothing to be escaped.
func quoted(text string) string {
	if strings.ContainsAny(text, `"\`) && !strings.Contains(text, "'") && !strings.ContainsFunc(text, escapedInYAML) {
		return "'" + text + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\r':
			b.WriteString(`\r`)
		case !escapedInYAML(c):
			b.WriteRune(c)
		case c <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			fmt.Fprintf(&b, `\U%08x`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// escapedInYAML reports whether a character cannot stand in a text as it is, or nobody would see it.
func escapedInYAML(c rune) bool {
	return !allowed(c) || c == '\n' || c == '\r' || c == '\t' || c == 0x85 || c != ' ' && !unicode.IsGraphic(c) ||
		c == 0x2028 || c == 0x2029
}

func isBlockStyle(n *yaml.Node) bool { return n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 }

// block writes a text in lines of its own: as it is (|), or of the lines that the source folds (>).
func (w *formatWriter) block(n *yaml.Node, e *formatEntry, indent int) {
	body := strings.TrimRight(n.Value, "\n")
	mark, chomp := " |", ""
	switch newlines := len(n.Value) - len(body); {
	case newlines == 0:
		chomp = "-"
	case newlines > 1:
		chomp = "+"
	}
	list := strings.Split(body, "\n")
	if chomp == "+" {
		list = append(list, make([]string, len(n.Value)-len(body)-1)...)
	}
	folded, ok := w.foldedLines(n)
	switch {
	case body == "" || strings.ContainsFunc(strings.ReplaceAll(body, "\n", ""), func(c rune) bool {
		return c != '\t' && escapedInYAML(c)
	}):
		w.WriteString(" " + quoted(n.Value))
		w.end(e)
		return
	case n.Style&yaml.FoldedStyle != 0 && ok && chomp != "+":
		mark, list = " >", folded
	}
	if strings.HasPrefix(body, " ") || strings.HasPrefix(body, "\n") {
		chomp = fmt.Sprint(formatStep) + chomp
	}
	w.WriteString(mark + chomp)
	w.end(e)
	for _, line := range list {
		if line != "" {
			w.indent(indent + formatStep)
		}
		w.WriteString(line + "\n")
	}
}

// foldedLines returns the lines of a folded text as they stand in the source, without their indentation; false where
// that is not plain to see.
func (w *formatWriter) foldedLines(n *yaml.Node) (list []string, ok bool) {
	indentation := -1
	for _, line := range w.source[min(n.Line, len(w.source)):] {
		text := strings.TrimLeft(line, " ")
		spaces := len(line) - len(text)
		switch {
		case text == "":
			list = append(list, "")
			continue
		case indentation < 0:
			indentation = spaces
		case spaces < indentation:
			return trimEnd(list), true
		}
		if spaces == 0 {
			return nil, false
		}
		list = append(list, line[indentation:])
	}
	return trimEnd(list), indentation > 0
}

func trimEnd(list []string) []string {
	for len(list) > 0 && list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return list
}

// usualUnits returns a tree as plain values in which the settings that have a unit are as they are usually written.
func usualUnits(n *node, t reflect.Type) any {
	t = pointed(t)
	if u, ok := asUnion(t); ok && u.value() != nil {
		t = pointed(reflect.TypeOf(u.value()))
	}
	switch n.kind {
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			inner := reflect.TypeFor[any]()
			if t.Kind() == reflect.Slice {
				inner = t.Elem()
			}
			list[i] = usualUnits(item, inner)
		}
		return list
	case mappingNode:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			inner := reflect.TypeFor[any]()
			switch t.Kind() {
			case reflect.Map:
				inner = t.Elem()
			case reflect.Struct:
				if f, ok := fieldAt(t, []string{m.name}); ok {
					inner = f.Type
				}
			}
			object[m.name] = usualUnits(m.value, inner)
		}
		return object
	}
	if text, ok := n.scalar.(string); ok {
		return usualUnit(text, t)
	}
	return n.scalar
}

// usualUnit returns a duration, a size or a share as it is usually written: 1000ms is 1s, 0.5s is 500ms, 1024KiB is
// 1MiB, 50.0% is 50%. 60s and 1h30m stay: they may say more than 1m and 90m.
func usualUnit(text string, t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		d, err := ParseDuration(text)
		digits, inMilliseconds := strings.CutSuffix(text, "ms")
		switch {
		case err != nil:
		case strings.Contains(text, "."):
			if same, err := ParseDuration(d.String()); err == nil && same == d {
				return d.String()
			}
		case inMilliseconds && strings.TrimLeft(digits, "0123456789") == "" && time.Duration(d)%time.Second == 0:
			return fmt.Sprintf("%ds", time.Duration(d)/time.Second)
		}
	case reflect.TypeFor[Size]():
		if s, err := parseSize(text); err == nil && s != 0 {
			return s.String()
		}
	case reflect.TypeFor[ByteRate]():
		if r, err := parseByteRate(text); err == nil && r != 0 {
			return r.String()
		}
	case reflect.TypeFor[Percent]():
		if p, err := parsePercent(text); err == nil {
			return p.String()
		}
	}
	return text
}

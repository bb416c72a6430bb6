package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Inline writes a value as encoding/json decodes it the way it could stand in a configuration, on one line: a text
// without quotes where it needs none.
func Inline(v any) string {
	var b strings.Builder
	inline(&b, v)
	return b.String()
}

func inline(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("nothing")
	case map[string]any:
		b.WriteByte('{')
		for i, name := range sortedNames(v) {
			if i > 0 {
				b.WriteString(", ")
			}
			inlineText(b, name)
			b.WriteString(": ")
			inline(b, v[name])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			inline(b, item)
		}
		b.WriteByte(']')
	case string:
		inlineText(b, v)
	default:
		fmt.Fprint(b, v) // a number or a truth value
	}
}

// inlineText quotes a text that would not be one without quotes, or that could be taken for more than it is where it
// is printed.
func inlineText(b *strings.Builder, s string) {
	special := func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`,[]{}"'#&*!|>@`+"`", c) }
	var number json.Number
	switch {
	case s == Hidden:
		b.WriteString(s)
	case s == "", s == "true", s == "false", s == "null", s == "~", strings.ContainsFunc(s, special),
		strings.HasSuffix(s, ":"), json.Unmarshal([]byte(s), &number) == nil:
		b.WriteString(strconv.Quote(s))
	default:
		b.WriteString(s)
	}
}

func sortedNames(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

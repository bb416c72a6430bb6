package ref

import (
	"errors"
	"strings"
)

// Template is text with references in braces. The zero value is the empty text.
type Template struct {
	Parts []Part
}

// Part is literal text or, with Ref set, a reference.
type Part struct {
	Text string
	Ref  *Ref
}

const (
	// TemplatePattern is the form of a template in JSON Schema's regular expressions; [ParseTemplate] is stricter.
	TemplatePattern = `^([^{}]|\{\{|\}\}|\{[^{}]+\})*$`
	// WantTemplate says in a message what a template is.
	WantTemplate = "text with references in braces such as /v1/orders/{gid}"
)

var (
	errOpenBrace  = errors.New("a { is not closed; a brace itself is written {{")
	errCloseBrace = errors.New("a } has no {; a brace itself is written }}")
)

// ParseTemplate reads text with references in braces; {{ and }} are the braces themselves.
func ParseTemplate(s string) (Template, error) {
	var t Template
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			t.Parts = append(t.Parts, Part{Text: text.String()})
			text.Reset()
		}
	}
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			text.WriteString(s)
			break
		}
		text.WriteString(s[:i])
		brace := s[i]
		s = s[i+1:]
		switch {
		case s != "" && s[0] == brace:
			text.WriteByte(brace)
			s = s[1:]
		case brace == '}':
			return Template{}, errCloseBrace
		default:
			end := strings.IndexAny(s, "{}")
			if end < 0 || s[end] == '{' {
				return Template{}, errOpenBrace
			}
			ref, err := Parse(s[:end])
			if err != nil {
				return Template{}, err
			}
			flush()
			t.Parts = append(t.Parts, Part{Ref: &ref})
			s = s[end+1:]
		}
	}
	flush()
	return t, nil
}

// Lone returns the reference when the template is nothing else; its value keeps its JSON type then.
func (t Template) Lone() (*Ref, bool) {
	if len(t.Parts) != 1 || t.Parts[0].Ref == nil {
		return nil, false
	}
	return t.Parts[0].Ref, true
}

// Refs returns the references in their order.
func (t Template) Refs() []Ref {
	var refs []Ref
	for _, p := range t.Parts {
		if p.Ref != nil {
			refs = append(refs, *p.Ref)
		}
	}
	return refs
}

var doubleBraces = strings.NewReplacer("{", "{{", "}", "}}")

// Quote returns the template that stands for the text itself: its braces doubled.
func Quote(text string) string { return doubleBraces.Replace(text) }

func (t Template) String() string {
	var b strings.Builder
	for _, p := range t.Parts {
		if p.Ref != nil {
			b.WriteString("{" + p.Ref.String() + "}")
		} else {
			b.WriteString(Quote(p.Text))
		}
	}
	return b.String()
}

// MarshalText implements [encoding.TextMarshaler].
func (t Template) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *Template) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTemplate(string(b))
	return err
}

package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Ref is one reference of the small language: principal, path.sku, body.cart.total. Root is the word before the first dot
// (client.ip is the root "client.ip"), Path the rest.
type Ref struct {
	Root string
	Path []string
}

// Template is text with references in braces.
type Template struct {
	Parts []TemplatePart
}

// TemplatePart is literal text or, with Ref set, a reference.
type TemplatePart struct {
	Text string
	Ref  *Ref
}

const (
	refPattern      = `^(principal|client\.ip|route|method|path|query|body|gid|key|(path|query|header|body|steps)\..+)$`
	memberPattern   = `^[^.]+(\.[^.]+)*$`
	templatePattern = `^([^{}]|\{\{|\}\}|\{[^{}]+\})*$`

	wantRef      = "a reference such as principal, path.sku, header.X-Tenant or body.cart.total"
	wantMember   = "a member of the JSON body such as order_no or cart.id"
	wantTemplate = "text with references in braces such as /v1/orders/{gid}"
)

// paramName is the form of {name} in a path pattern.
const paramName = `[A-Za-z_][A-Za-z0-9_-]*`

var (
	paramForm = regexp.MustCompile(`^` + paramName + `$`)
	tokenForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110 §5.6.2
)

// The roots of references.
const (
	RootPrincipal = "principal"
	RootClientIP  = "client.ip"
	RootRoute     = "route"
	RootMethod    = "method"
	RootPath      = "path"
	RootQuery     = "query"
	RootHeader    = "header"
	RootBody      = "body"
	RootGID       = "gid"
	RootSteps     = "steps"
	RootKey       = "key" // the injected Idempotency-Key, where there is one: in a probe
)

// ParseRef reads one reference. The name behind path, query and header is one name, dots included; behind body and steps
// each dot goes one member deeper.
func ParseRef(s string) (Ref, error) {
	switch s {
	case RootPrincipal, RootClientIP, RootRoute, RootMethod, RootPath, RootQuery, RootBody, RootGID, RootKey:
		return Ref{Root: s}, nil
	}
	root, rest, _ := strings.Cut(s, ".")
	ref := Ref{Root: root, Path: []string{rest}}
	sound := rest != "" && !strings.ContainsFunc(rest, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '{' || r == '}' })
	switch root {
	case RootPath:
		sound = paramForm.MatchString(rest)
	case RootHeader:
		sound = tokenForm.MatchString(rest)
	case RootBody, RootSteps:
		ref.Path = strings.Split(rest, ".")
		for _, name := range ref.Path {
			sound = sound && name != ""
		}
	case RootQuery:
	default:
		sound = false
	}
	if !sound {
		return Ref{}, fmt.Errorf("%q is not %s", s, wantRef)
	}
	return ref, nil
}

func (r Ref) String() string {
	if len(r.Path) == 0 {
		return r.Root
	}
	return r.Root + "." + strings.Join(r.Path, ".")
}

// MarshalText implements [encoding.TextMarshaler].
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Ref) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRef(string(b))
	return err
}

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
			t.Parts = append(t.Parts, TemplatePart{Text: text.String()})
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
			ref, err := ParseRef(s[:end])
			if err != nil {
				return Template{}, err
			}
			flush()
			t.Parts = append(t.Parts, TemplatePart{Ref: &ref})
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

func (t Template) String() string {
	var b strings.Builder
	for _, p := range t.Parts {
		if p.Ref != nil {
			b.WriteString("{" + p.Ref.String() + "}")
		} else {
			b.WriteString(doubleBraces.Replace(p.Text))
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

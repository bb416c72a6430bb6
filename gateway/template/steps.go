package template

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Templates that refer to the responses of steps are expanded twice: with the request, which leaves those references
// where they are, and, when the responses are there, with them. The request is not needed the second time.

// Responses are JSON documents, by the names of the steps that they are of. The zero value has none. It is not safe for
// concurrent use.
type Responses struct{ of map[string]*filters.Exchange }

// Add keeps the response of a step.
func (s *Responses) Add(step string, response []byte) {
	if s.of == nil {
		s.of = map[string]*filters.Exchange{}
	}
	x := new(filters.Exchange) // for its reading of JSON
	x.Begin(context.Background(), func(int64) ([]byte, error) { return response, nil })
	s.of[step] = x
}

func (s *Responses) value(r ref.Ref) (any, bool, error) {
	x, r := s.find(r)
	if x == nil {
		return nil, false, nil
	}
	return r.Value(x)
}

func (s *Responses) text(r ref.Ref) (string, bool, error) {
	x, r := s.find(r)
	if x == nil {
		return "", false, nil
	}
	return r.Text(x)
}

// find returns the response that a reference is about, and the reference within it.
func (s *Responses) find(r ref.Ref) (*filters.Exchange, ref.Ref) {
	if r.Root != ref.Steps || len(r.Path) == 0 {
		return nil, r
	}
	return s.of[r.Path[0]], ref.Ref{Root: ref.Body, Path: r.Path[1:]}
}

// Steps returns the names of the steps whose responses a template, or a body of templates, refers to.
func Steps(v any) (names []string) {
	switch v := v.(type) {
	case ref.Template:
		for _, r := range v.Refs() {
			if r.Root == ref.Steps {
				names = append(names, r.Path[0])
			}
		}
	case map[string]any:
		for _, member := range v {
			names = append(names, Steps(member)...)
		}
	case []any:
		for _, member := range v {
			names = append(names, Steps(member)...)
		}
	}
	return names
}

func ofSteps(t ref.Template) bool { return len(Steps(t)) > 0 }

// Partial is [Value] that leaves references to steps.
func Partial(v any, x *filters.Exchange, most int) (any, error) {
	e := expansion{of: request{x}, left: most, keep: true}
	out, err := e.value(v)
	return owned(out), err
}

// owned returns a value with copies of its texts: those of a request lie in buffers that are used again.
func owned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = owned(member)
		}
	case []any:
		for i, member := range v {
			v[i] = owned(member)
		}
	case string:
		return strings.Clone(v)
	case json.Number:
		return json.Number(strings.Clone(string(v)))
	case json.RawMessage:
		return slices.Clone(v)
	}
	return v
}

// PartialText is the text of a template that leaves references to steps.
func PartialText(t ref.Template, x *filters.Exchange) (ref.Template, error) {
	e := expansion{of: request{x}, left: fieldBytesMax, keep: true}
	return e.partial(t)
}

// PartialTarget is [Target] that leaves references to steps. Its result is a template of [Responses.Target] only: its
// texts are escaped.
func PartialTarget(t ref.Template, x *filters.Exchange) (ref.Template, error) {
	out, err := escaped(t, request{x}, true)
	for i := range out.Parts {
		out.Parts[i].Text = strings.Clone(out.Parts[i].Text)
	}
	return out, err
}

// partial expands the references but those to steps.
func (e *expansion) partial(t ref.Template) (out ref.Template, err error) {
	for _, part := range t.Parts {
		if part.Ref != nil && part.Ref.Root != ref.Steps {
			text, err := e.text(ref.Template{Parts: []ref.Part{part}})
			if err != nil {
				return ref.Template{}, err
			}
			part = ref.Part{Text: strings.Clone(text)}
		}
		out.Parts = append(out.Parts, part)
	}
	return out, nil
}

// Value expands what Partial has left.
func (s *Responses) Value(v any, most int) (any, error) {
	e := expansion{of: s, left: most}
	return e.value(v)
}

// Field expands what PartialText has left; see the function of that name.
func (s *Responses) Field(t ref.Template) (string, error) { return field(t, s) }

// Target expands what PartialTarget has left; see the function of that name.
func (s *Responses) Target(t ref.Template) (path, query string, err error) { return target(t, s) }

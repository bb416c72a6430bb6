// Package template expands the configuration's templates with the parts of an exchange: the target and the body of a
// call that the gateway makes itself.
package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// MissingError says that a request lacks a part that a template needs.
type MissingError struct{ Ref ref.Ref }

func (e *MissingError) Error() string {
	return fmt.Sprintf("template: the request has no %s", e.Ref)
}

// ErrTooLong says that what was expanded is longer than it may be.
var ErrTooLong = errors.New("template: the values of the request are too long")

// Value expands a body: every [ref.Template] in it becomes text, or, where it is one reference, the value with its JSON
// type. The values that are put in have most bytes together, as they are written in the request. The error is a
// [*MissingError], [ErrTooLong], or one of evaluating a reference.
func Value(v any, x *filters.Exchange, most int) (any, error) {
	e := expansion{of: request{x}, left: most}
	return e.value(v)
}

// source is what references are evaluated on, as [ref.Ref.Value] and [ref.Ref.Text] evaluate them.
type source interface {
	value(r ref.Ref) (any, bool, error)
	text(r ref.Ref) (string, bool, error)
}

type request struct{ x *filters.Exchange }

func (q request) value(r ref.Ref) (any, bool, error)   { return r.Value(q.x) }
func (q request) text(r ref.Ref) (string, bool, error) { return r.Text(q.x) }

type expansion struct {
	of   source
	left int // bytes that may still be put in
	// keep: references to steps stay where they are, see Partial.
	keep bool
}

func (e *expansion) value(v any) (any, error) {
	switch v := v.(type) {
	case ref.Template:
		return e.expand(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, member := range v {
			expanded, err := e.value(member)
			if err != nil {
				return nil, err
			}
			out[k] = expanded
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, member := range v {
			expanded, err := e.value(member)
			if err != nil {
				return nil, err
			}
			out[i] = expanded
		}
		return out, nil
	}
	return v, nil
}

func (e *expansion) expand(t ref.Template) (any, error) {
	if e.keep && ofSteps(t) {
		return e.partial(t)
	}
	r, lone := t.Lone()
	if !lone {
		return e.text(t)
	}
	v, ok, err := e.of.value(*r)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &MissingError{*r}
	}
	switch v := v.(type) {
	case string:
		err = e.take(len(v))
	case json.Number:
		err = e.take(len(v))
	case json.RawMessage:
		err = e.take(len(v))
	}
	return v, err
}

// take counts bytes that are put in.
func (e *expansion) take(n int) error {
	if e.left -= n; e.left < 0 {
		return ErrTooLong
	}
	return nil
}

func (e *expansion) text(t ref.Template) (string, error) {
	var b strings.Builder
	for _, part := range t.Parts {
		if part.Ref == nil {
			b.WriteString(part.Text)
			continue
		}
		v, ok, err := e.of.text(*part.Ref)
		switch {
		case err != nil:
			return "", err
		case !ok:
			return "", &MissingError{*part.Ref}
		}
		if err := e.take(len(v)); err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

// fieldBytesMax is how long the value of a field may be.
const fieldBytesMax = 8 << 10

// Field expands the value of a header field. The error is as that of [Value], or says that the value is no
// field value (RFC 9110 §5.5): a value of a body may hold anything, and a line feed would begin another field.
func Field(t ref.Template, x *filters.Exchange) (string, error) {
	return field(t, request{x})
}

func field(t ref.Template, of source) (string, error) {
	e := expansion{of: of, left: fieldBytesMax}
	v, err := e.text(t)
	if err != nil {
		return "", err
	}
	v = strings.Trim(v, " \t")
	if strings.ContainsFunc(v, func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }) {
		return "", fmt.Errorf("template: %s: the value has a control character", t)
	}
	if r, lone := t.Lone(); lone && v == "" {
		return "", &MissingError{*r}
	}
	return v, nil
}

// Members returns the paths of the members of the request's body that a template or a body of templates refers to.
func Members(v any) (paths [][]string) {
	switch v := v.(type) {
	case ref.Template:
		return ref.Members(v.Refs()...)
	case map[string]any:
		for _, member := range v {
			paths = append(paths, Members(member)...)
		}
	case []any:
		for _, member := range v {
			paths = append(paths, Members(member)...)
		}
	}
	return paths
}

// targetBytesMax is how long a value in a path or a query may be; more than any service takes.
const targetBytesMax = 16 << 10

// Target expands a path with an optional query. A value is escaped, so that it cannot leave its place: one segment of
// the path, or one value of the query. The error is as that of [Value], or says that the path is not canonical.
func Target(t ref.Template, x *filters.Exchange) (path, query string, err error) {
	return target(t, request{x})
}

func target(t ref.Template, of source) (path, query string, err error) {
	t, err = escaped(t, of, false)
	if err != nil {
		return "", "", err
	}
	expanded := strings.Builder{}
	for _, part := range t.Parts {
		expanded.WriteString(part.Text)
	}
	path, query, _ = strings.Cut(expanded.String(), "?")
	canonical, err := router.Canonical(path)
	if err != nil || canonical != path { // a value that is a dot segment would lead elsewhere
		return "", "", fmt.Errorf("template: %q is not a canonical path", path)
	}
	return path, query, nil
}

// escaped expands the references of a target in their places; with keep those to steps stay.
func escaped(t ref.Template, of source, keep bool) (out ref.Template, err error) {
	inQuery := false
	for _, part := range t.Parts {
		if part.Ref == nil || keep && part.Ref.Root == ref.Steps {
			inQuery = inQuery || strings.Contains(part.Text, "?")
			out.Parts = append(out.Parts, part)
			continue
		}
		v, ok, err := of.text(*part.Ref)
		switch {
		case err != nil:
			return ref.Template{}, err
		case !ok || v == "":
			return ref.Template{}, &MissingError{*part.Ref}
		case len(v) > targetBytesMax:
			return ref.Template{}, ErrTooLong
		}
		if inQuery {
			v = url.QueryEscape(v)
		} else {
			v = router.EscapeSegment(v)
		}
		out.Parts = append(out.Parts, ref.Part{Text: v})
	}
	return out, nil
}

// Package template expands the configuration's templates with the parts of an exchange: the target and the body of a
// call that the gateway makes itself.
package template

import (
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

// Value expands a body: every [ref.Template] in it becomes text, or, where it is one reference, the value with its JSON
// type. The error is a [*MissingError].
func Value(v any, x *filters.Exchange) (any, error) {
	switch v := v.(type) {
	case ref.Template:
		return expand(v, x)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, member := range v {
			expanded, err := Value(member, x)
			if err != nil {
				return nil, err
			}
			out[k] = expanded
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, member := range v {
			expanded, err := Value(member, x)
			if err != nil {
				return nil, err
			}
			out[i] = expanded
		}
		return out, nil
	}
	return v, nil
}

func expand(t ref.Template, x *filters.Exchange) (any, error) {
	if r, lone := t.Lone(); lone {
		v, ok := r.Value(x)
		if !ok {
			return nil, &MissingError{*r}
		}
		return v, nil
	}
	return text(t, x)
}

// Target expands a path with an optional query. A value is escaped, so that it cannot leave its place: one segment of
// the path, or one value of the query.
func Target(t ref.Template, x *filters.Exchange) (path, query string, err error) {
	inQuery := false
	expanded := strings.Builder{}
	for _, part := range t.Parts {
		if part.Ref == nil {
			inQuery = inQuery || strings.Contains(part.Text, "?")
			expanded.WriteString(part.Text)
			continue
		}
		v, ok := part.Ref.Text(x)
		if !ok || v == "" {
			return "", "", &MissingError{*part.Ref}
		}
		if inQuery {
			expanded.WriteString(url.QueryEscape(v))
		} else {
			expanded.WriteString(router.EscapeSegment(v))
		}
	}
	path, query, _ = strings.Cut(expanded.String(), "?")
	canonical, err := router.Canonical(path)
	if err != nil || canonical != path { // a value that is a dot segment would lead elsewhere
		return "", "", fmt.Errorf("template: %q is not a canonical path", path)
	}
	return path, query, nil
}

func text(t ref.Template, x *filters.Exchange) (string, error) {
	var b strings.Builder
	for _, part := range t.Parts {
		if part.Ref == nil {
			b.WriteString(part.Text)
			continue
		}
		v, ok := part.Ref.Text(x)
		if !ok {
			return "", &MissingError{*part.Ref}
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

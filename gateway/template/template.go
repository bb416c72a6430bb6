// Package template fills in the configuration's references and templates from an exchange.
package template

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
)

var sources = map[string]filters.Source{
	"principal": filters.FromPrincipal,
	"client.ip": filters.FromClientIP,
	"route":     filters.FromRoute,
	"method":    filters.FromMethod,
	"path":      filters.FromPath,
	"query":     filters.FromQuery,
	"header":    filters.FromHeader,
	"body":      filters.FromBody,
	"gid":       filters.FromGID,
	"key":       filters.FromKey,
}

// Ref turns a reference of the configuration into one that filters look up. The configuration has been checked, so a root that is not
// known here is a bug and panics when the engine is built.
func Ref(r config.Ref) filters.Ref {
	source, ok := sources[r.Root]
	if !ok {
		panic("template: reference with the root " + r.Root)
	}
	return filters.Ref{Source: source, Path: r.Path}
}

// Refs does the same for a list.
func Refs(list []config.Ref) []filters.Ref {
	out := make([]filters.Ref, len(list))
	for i, r := range list {
		out[i] = Ref(r)
	}
	return out
}

// MissingError says that a request lacks a part that a template needs.
type MissingError struct{ Ref config.Ref }

func (e *MissingError) Error() string {
	return fmt.Sprintf("template: the request has no %s", e.Ref)
}

// Value fills in a body: every [config.Template] in it becomes text, or, where it is one reference, the value with its JSON type. The
// error is a [*MissingError].
func Value(v any, x *filters.Exchange) (any, error) {
	switch v := v.(type) {
	case config.Template:
		return fill(v, x)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, member := range v {
			filled, err := Value(member, x)
			if err != nil {
				return nil, err
			}
			out[k] = filled
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, member := range v {
			filled, err := Value(member, x)
			if err != nil {
				return nil, err
			}
			out[i] = filled
		}
		return out, nil
	}
	return v, nil
}

func fill(t config.Template, x *filters.Exchange) (any, error) {
	if ref, lone := t.Lone(); lone {
		v, ok := Ref(*ref).Value(x)
		if !ok {
			return nil, &MissingError{*ref}
		}
		return v, nil
	}
	return text(t, x)
}

// Target fills in a path with an optional query. What is filled in is escaped, so that a value cannot leave its place: one segment
// of the path, or one value of the query.
func Target(t config.Template, x *filters.Exchange) (path, query string, err error) {
	inQuery := false
	filled := strings.Builder{}
	for _, part := range t.Parts {
		if part.Ref == nil {
			inQuery = inQuery || strings.Contains(part.Text, "?")
			filled.WriteString(part.Text)
			continue
		}
		v, ok := Ref(*part.Ref).Text(x)
		if !ok || v == "" {
			return "", "", &MissingError{*part.Ref}
		}
		if inQuery {
			filled.WriteString(url.QueryEscape(v))
		} else {
			filled.WriteString(router.EscapeSegment(v))
		}
	}
	path, query, _ = strings.Cut(filled.String(), "?")
	canonical, err := router.Canonical(path)
	if err != nil || canonical != path { // a value that is a dot segment would lead elsewhere
		return "", "", fmt.Errorf("template: %q is not a canonical path", path)
	}
	return path, query, nil
}

func text(t config.Template, x *filters.Exchange) (string, error) {
	var b strings.Builder
	for _, part := range t.Parts {
		if part.Ref == nil {
			b.WriteString(part.Text)
			continue
		}
		v, ok := Ref(*part.Ref).Text(x)
		if !ok {
			return "", &MissingError{*part.Ref}
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

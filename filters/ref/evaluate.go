package ref

import (
	"encoding/json"
	"strconv"
)

// Exchange is the request that references are evaluated on; *filters.Exchange is one.
type Exchange interface {
	// Part returns the part of the request that a root names: every root but Body and Steps. The name is that of the
	// captured segment, the query's parameter or the header field; empty without one. False: the request has no such
	// part. The text is valid as long as the exchange's own are.
	Part(root, name string) (string, bool)
	// Body returns the request's whole body.
	Body() ([]byte, error)
	// JSON returns the body as a JSON document, numbers as [json.Number]; false when it is not exactly one.
	JSON() (any, bool)
}

// Value returns what the reference stands for with its JSON type: string, [json.Number], bool, nil, []any or
// map[string]any. False says that the request has no such part.
func (r Ref) Value(x Exchange) (any, bool) {
	if r.Root != Body {
		return r.Text(x)
	}
	document, ok := x.JSON()
	switch {
	case ok:
		return member(document, r.Path)
	case len(r.Path) > 0:
		return nil, false
	}
	b, err := x.Body()
	return string(b), err == nil
}

// Text returns what the reference stands for as text: a number as it was written, a member that is a list or an object
// as compact JSON. False says that the request has no such part. The text is valid as long as the exchange's own are.
func (r Ref) Text(x Exchange) (string, bool) {
	switch {
	case r.Root == Body && len(r.Path) == 0:
		b, err := x.Body()
		return string(b), err == nil
	case r.Root == Body:
		v, ok := r.Value(x)
		if !ok {
			return "", false
		}
		return textOf(v), true
	case len(r.Path) == 0:
		return x.Part(r.Root, "")
	}
	return x.Part(r.Root, r.Path[0])
}

// member walks down a JSON document by member names; in a list a name is an index from 0.
func member(v any, path []string) (any, bool) {
	for _, name := range path {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[name]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// textOf writes a JSON value as text: a string as it is, everything else as compact JSON.
func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil { // only members of a decoded document come here, and those always marshal
		return ""
	}
	return string(b)
}

package filters

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Source is where a reference looks.
type Source uint8

// The sources of the reference language of the configuration.
const (
	FromPrincipal Source = iota
	FromClientIP
	FromRoute
	FromMethod
	FromPath   // the canonical path; with a name: the captured segment
	FromQuery  // the query string; with a name: the first parameter of that name
	FromHeader // a field, several joined by ", "
	FromBody   // the body; with names: a member of the JSON document
	FromGID    // the transaction's gid
	FromKey    // the injected Idempotency-Key
)

// Ref is a reference to a part of an exchange, such as header.X-Tenant or body.cart.total. The zero value is the principal.
type Ref struct {
	Source Source
	Path   []string // the names behind the source
}

// Value returns what the reference stands for with its JSON type: string, [json.Number], bool, nil, []any or
// map[string]any. False says that the exchange has no such part.
func (r Ref) Value(x *Exchange) (any, bool) {
	switch r.Source {
	case FromBody:
		if len(r.Path) == 0 {
			if v, ok := x.JSON(); ok {
				return v, true
			}
			b, err := x.Body()
			return string(b), err == nil
		}
		v, ok := x.JSON()
		if !ok {
			return nil, false
		}
		return Member(v, r.Path)
	default:
		return r.Text(x)
	}
}

// Text returns what the reference stands for as text: a number as it was written, a member that is a list or an object as compact
// JSON. False says that the exchange has no such part. The text is good as long as the exchange's own are.
func (r Ref) Text(x *Exchange) (string, bool) {
	switch r.Source {
	case FromPrincipal:
		return x.Principal, x.Principal != ""
	case FromClientIP:
		if !x.Client.IsValid() {
			return "", false
		}
		return x.Text(x.Client.AppendTo(x.Scratch())), true
	case FromRoute:
		return x.Route, true
	case FromMethod:
		return x.Method, true
	case FromPath:
		if len(r.Path) == 0 {
			return x.Path, true
		}
		return x.Param(r.Path[0])
	case FromQuery:
		if len(r.Path) == 0 {
			return x.RawQuery, true
		}
		return queryParameter(x.RawQuery, r.Path[0])
	case FromHeader:
		if _, ok := x.Header.Lookup(r.Path[0]); !ok {
			return "", false
		}
		return x.Header.Joined(r.Path[0]), true
	case FromGID:
		return x.Logical.GID, x.Logical.GID != ""
	case FromKey:
		return x.Logical.Key, x.Logical.Key != ""
	case FromBody:
		if len(r.Path) == 0 {
			b, err := x.Body()
			return string(b), err == nil
		}
		v, ok := r.Value(x)
		if !ok {
			return "", false
		}
		return TextOf(v), true
	}
	return "", false
}

// Member walks down a JSON document by member names; in a list a name is an index from 0.
func Member(v any, path []string) (any, bool) {
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

// TextOf writes a JSON value as text: a string as it is, everything else as compact JSON.
func TextOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, err := json.Marshal(v)
	if err != nil { // only values from decodeDocument come here, and those always marshal
		return ""
	}
	return string(b)
}

// queryParameter returns the first parameter of that name. A pair that does not decode is not there.
func queryParameter(raw, name string) (string, bool) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		k, v, _ := strings.Cut(pair, "=")
		k, err := url.QueryUnescape(k)
		if err != nil || k != name {
			continue
		}
		v, err = url.QueryUnescape(v)
		if err != nil {
			continue
		}
		return v, true
	}
	return "", false
}

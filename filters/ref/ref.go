package ref

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Ref is one reference. Root is the word before the first dot (client.ip is the root "client.ip"), Path the rest. The
// zero value refers to nothing.
type Ref struct {
	Root string
	Path []string
}

// The roots of references.
const (
	Principal = "principal"
	ClientIP  = "client.ip"
	Host      = "host" // the name that the client asked for, in lower case, without a port
	Route     = "route"
	Method    = "method"
	Path      = "path"
	Query     = "query"
	Header    = "header"
	Body      = "body"
	GID       = "gid" // the transaction's name at its coordinator
	Steps     = "steps"
	Key       = "key" // the injected Idempotency-Key, where there is one
)

const (
	// Pattern is the form of a reference in JSON Schema's regular expressions; [Parse] is stricter.
	Pattern = `^(principal|client\.ip|host|route|method|path|query|body|gid|key|(path|query|header|body|steps)\..+)$`
	// Want says in a message what a reference is.
	Want = "a reference such as principal, path.sku, header.X-Tenant or body.cart.total"
)

var (
	paramForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	tokenForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110 §5.6.2
)

// IsParam reports whether a name can be that of a path's captured segment: {name}.
func IsParam(name string) bool { return paramForm.MatchString(name) }

// IsFieldName reports whether a name can be that of a header field.
func IsFieldName(name string) bool { return tokenForm.MatchString(name) }

// Parse reads one reference.
func Parse(s string) (Ref, error) {
	switch s {
	case Principal, ClientIP, Host, Route, Method, Path, Query, Body, GID, Key:
		return Ref{Root: s}, nil
	}
	root, rest, _ := strings.Cut(s, ".")
	ref := Ref{Root: root, Path: []string{rest}}
	sound := rest != "" && !strings.ContainsFunc(rest, func(r rune) bool {
		return r < 0x20 || r == 0x7f || r == '{' || r == '}'
	})
	switch root {
	case Path:
		sound = IsParam(rest)
	case Header:
		sound = IsFieldName(rest)
	case Body, Steps:
		ref.Path = strings.Split(rest, ".")
		for _, name := range ref.Path {
			sound = sound && name != ""
		}
	case Query:
	default:
		sound = false
	}
	if !sound {
		return Ref{}, fmt.Errorf("%q is not %s", s, Want)
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
	*r, err = Parse(string(b))
	return err
}

// AnyBody reports whether one of the references is to the request's body.
func AnyBody(list []Ref) bool {
	return slices.ContainsFunc(list, func(r Ref) bool { return r.Root == Body })
}

// Members returns the paths of the members of the request's body among the references.
func Members(list ...Ref) [][]string {
	var paths [][]string
	for _, r := range list {
		if r.Root == Body && len(r.Path) > 0 {
			paths = append(paths, r.Path)
		}
	}
	return paths
}

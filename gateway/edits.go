package gateway

import (
	"maps"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/router"
)

// requestEdits are what a route changes of requests before its service sees them. It is immutable.
type requestEdits struct {
	stripPrefix string
	path        []string // in turn texts and the names of captured segments, a text first; nil: the path stays
	host        string
	fields      fieldEdits
}

// newRequestEdits returns the edits of a route, nil for none.
func newRequestEdits(r *config.Route) *requestEdits {
	e := &requestEdits{}
	if w := r.Rewrite; w != nil {
		e.stripPrefix, e.path, e.host = w.StripPrefix, pathParts(w.Path), w.Host
	}
	if h := r.Headers; h != nil {
		e.fields = newFieldEdits(&h.Request)
	}
	if r.Rewrite == nil && e.fields.empty() {
		return nil
	}
	return e
}

// pathParts splits a path at its {segments}.
func pathParts(path string) (parts []string) {
	if path == "" {
		return nil
	}
	for {
		text, rest, found := strings.Cut(path, "{")
		parts = append(parts, text)
		if !found {
			return parts
		}
		name, behind, _ := strings.Cut(rest, "}")
		parts, path = append(parts, name), behind
	}
}

// asSeen is what a client asked for.
type asSeen struct {
	header     filters.Header
	path, host string
}

// apply makes the exchange the request that the service gets, and returns what it was before: the filters go on with
// what the client sent.
func (e *requestEdits) apply(x *filters.Exchange) asSeen {
	before := asSeen{x.Header, x.Path, x.Host}
	if !e.fields.empty() {
		x.Header = append(make(filters.Header, 0, len(x.Header)+len(e.fields.set)+len(e.fields.add)), x.Header...)
		e.fields.apply(&x.Header)
	}
	if e.host != "" {
		x.Host = e.host
	}
	switch {
	case e.path != nil:
		x.Path = expand(e.path, x.Params)
	case e.stripPrefix != "":
		if rest := strings.TrimPrefix(x.Path, e.stripPrefix); rest != "" {
			x.Path = rest
		} else {
			x.Path = "/"
		}
	}
	return before
}

// restore undoes apply.
func (s *asSeen) restore(x *filters.Exchange) { x.Header, x.Path, x.Host = s.header, s.path, s.host }

// expand returns the path with what was captured in its places, escaped, so that no value leaves its segment.
func expand(path []string, params []filters.Param) string {
	var b strings.Builder
	for i, part := range path {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		j := slices.IndexFunc(params, func(p filters.Param) bool { return p.Name == part })
		if j >= 0 { // the configuration has checked that it is there
			b.WriteString(router.EscapeSegment(params[j].Value))
		}
	}
	return b.String()
}

// fieldEdits are changes of fields, made in the order remove, set, add. The zero value makes none.
type fieldEdits struct {
	removed  []string // those that are set, too
	set, add filters.Header
}

func newFieldEdits(c *config.FieldEdits) fieldEdits {
	e := fieldEdits{removed: slices.Clone(c.Remove)}
	for _, name := range slices.Sorted(maps.Keys(c.Set)) {
		e.removed = append(e.removed, name)
		e.set.Add(name, c.Set[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.Add)) {
		e.add.Add(name, c.Add[name])
	}
	return e
}

func (e *fieldEdits) empty() bool { return len(e.removed)+len(e.add) == 0 }

func (e *fieldEdits) apply(h *filters.Header) {
	if len(e.removed) > 0 {
		h.DelFunc(func(name string) bool {
			return slices.ContainsFunc(e.removed, func(r string) bool { return filters.EqualName(r, name) })
		})
	}
	*h = append(append(*h, e.set...), e.add...)
}

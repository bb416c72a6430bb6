package config

import (
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Rewrite is what the service sees in place of what the client asked for.
type Rewrite struct {
	StripPrefix string `json:"stripPrefix"`
	Path        string `json:"path"`
	Host        string `json:"host"`
}

func (Rewrite) describe() descriptions {
	return descriptions{
		"": "What the service sees in place of path and host. Limits, keys and other references see what the " +
			"client asked for.",
		"StripPrefix": "Taken off the path: /api makes /v1 of /api/v1, and / of /api.",
		"Path":        "In place of the path; {id} is what the segment {id} of match.path captured. The query stays.",
		"Host":        "In place of the Host field: a name, with a port where one is wanted.",
	}
}

func (r *Rewrite) check(s site) {
	if s.route == nil {
		return
	}
	if s.route.Service.None() {
		s.fault(s.path, "is of requests to a service, and this route leads to none")
	}
	if !s.has("stripPrefix") && !s.has("path") && !s.has("host") {
		s.fault(s.path, "says nothing: one of stripPrefix, path and host is wanted")
	}
	if s.has("stripPrefix") {
		r.checkPrefix(s)
	}
	if s.has("path") {
		r.checkPath(s)
	}
	if s.has("host") && !soundAuthority(r.Host) {
		s.fault(s.at("host"), "%q is not a host such as orders.internal or orders.internal:8080", r.Host)
	}
}

func (r *Rewrite) checkPrefix(s site) {
	at := s.at("stripPrefix")
	params, err := checkPattern(r.StripPrefix)
	match := s.route.Match.Path
	switch {
	case s.has("path"):
		s.fault(at, "and path are two answers to one question")
	case err != nil:
		s.fault(at, "%q %v", r.StripPrefix, err)
	case len(params) > 0 || strings.Contains(r.StripPrefix, "*") || strings.HasSuffix(r.StripPrefix, "/"):
		s.fault(at, "%q is not a prefix such as /api: without {segments}, and without a / at its end", r.StripPrefix)
	case match != r.StripPrefix && !strings.HasPrefix(match, r.StripPrefix+"/"):
		s.fault(at, "%q is not what match.path %q begins with: nothing could be taken off", r.StripPrefix, match)
	}
}

func (r *Rewrite) checkPath(s site) {
	at := s.at("path")
	params, err := checkPattern(r.Path)
	switch {
	case err != nil:
		s.fault(at, "%q %v", r.Path, err)
		return
	case strings.HasSuffix(r.Path, "/**"):
		s.fault(at, "%q has no end: /** is for match.path; stripPrefix keeps the rest of a path", r.Path)
	}
	for _, name := range params {
		if s.params != nil && !slices.Contains(s.params, name) {
			s.fault(at, "%q has {%s}, and match.path captures no such segment", r.Path, name)
		}
	}
}

// soundAuthority reports whether a text is a host with an optional port.
func soundAuthority(text string) bool {
	host, port := text, ""
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
	}
	bracketed := strings.HasPrefix(text, "[")
	host = strings.Trim(host, "[]")
	return host != "" && soundHost(host, bracketed) && (port == "" && !strings.HasSuffix(text, ":") || soundPort(port))
}

// HeaderEdits are the fields of requests to a service and of responses that a route changes.
type HeaderEdits struct {
	Request  FieldEdits `json:"request"`
	Response FieldEdits `json:"response"`
}

// FieldEdits are made in this order: remove, set, add.
type FieldEdits struct {
	Set    map[string]string `json:"set"`
	Add    map[string]string `json:"add"`
	Remove []string          `json:"remove" jsonschema:"uniqueItems=true"`
}

// Empty reports whether nothing is changed.
func (e *FieldEdits) Empty() bool { return len(e.Set)+len(e.Add)+len(e.Remove) == 0 }

func (HeaderEdits) describe() descriptions {
	return descriptions{
		"":         "Fields that are taken out, set and added, in this order.",
		"Request":  "Of requests, as the service sees them. Limits, keys and other references see the client's.",
		"Response": "Of all responses of the route, those of the gateway too. They are not recorded.",
	}
}

func (FieldEdits) describe() descriptions {
	return descriptions{
		"Set":    "In place of all fields of that name.",
		"Add":    "Beside those of that name.",
		"Remove": "Names of fields.",
	}
}

func (h *HeaderEdits) check(s site) {
	if s.route == nil {
		return
	}
	if h.Request.Empty() && h.Response.Empty() {
		s.fault(s.path, "changes nothing: write set, add or remove below request or response")
	}
	if s.route.Service.None() && !h.Request.Empty() {
		s.fault(s.at("request"), "is of requests to a service, and this route leads to none")
	}
	h.Request.checkFields(s.to("request"), func(name string) string {
		folded := foldName(name)
		switch why := takenOut[folded]; {
		case folded == "host":
			return "rewrite.host sets it"
		case why != "":
			return why
		case strings.HasPrefix(folded, "sluice-"), folded == "idempotency-key":
			return ofGateway
		case strings.HasPrefix(folded, "x-forwarded-"):
			return "the gateway sets it by what it knows of the client"
		}
		return ""
	})
	h.Response.checkFields(s.to("response"), func(name string) string {
		switch folded := foldName(name); {
		case slices.Contains(framing, textproto.CanonicalMIMEHeaderKey(name)):
			return "the gateway sets this field itself"
		case strings.HasPrefix(folded, "sluice-"), strings.HasPrefix(folded, "idempotent-"):
			return ofGateway
		case strings.HasPrefix(folded, "access-control-") && s.route.CORS != nil:
			return "cors sets it"
		}
		return ""
	})
}

// checkFields checks the names and values; why says why a field cannot be changed, "" where it can.
func (e *FieldEdits) checkFields(s site, why func(name string) string) {
	check := func(at path, name string) {
		if !ref.IsFieldName(name) {
			s.fault(at, "%q is not %s", name, wantFieldName)
		} else if fault := why(name); fault != "" {
			s.fault(at, "%s cannot be changed: %s", name, fault)
		}
	}
	for i, name := range e.Remove {
		check(s.at("remove").item(i), name)
	}
	for key, fields := range map[string]map[string]string{"set": e.Set, "add": e.Add} {
		for _, name := range sortedKeys(fields) {
			at := s.at(key, name)
			check(at, name)
			if fault := fieldValueFault(fields[name]); fault != "" {
				s.fault(at, "%s", fault)
			}
		}
	}
	for _, name := range sortedKeys(e.Add) {
		for other := range e.Set {
			if strings.EqualFold(name, other) {
				s.fault(s.at("add", name), "is set too: a field is either set or added to")
			}
		}
	}
}

// fieldValueFault says why a text is no value of a field (RFC 9110 §5.5), "" when it is one.
func fieldValueFault(value string) string {
	switch {
	case strings.ContainsFunc(value, func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }):
		return "has a control character"
	case strings.Trim(value, " \t") != value:
		return fmt.Sprintf("%q has white space at its ends", value)
	}
	return ""
}

package config

import (
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

func (k *checker) route(r *Route, p path, names map[string]int, index int) {
	if first, taken := names[r.Name]; taken && r.Name != "" {
		k.fault(p.to("name"), "%q is the name of routes[%d] too", r.Name, first)
	} else {
		names[r.Name] = index
	}
	params, err := checkPattern(r.Match.Path)
	if err != nil && k.written(p.to("match", "path")) {
		k.fault(p.to("match", "path"), "%q %v", r.Match.Path, err)
	}
	known := k.written(p.to("match", "path")) && err == nil && k.sound(p.to("match", "path"))
	if !known {
		params = nil // so nothing is said of its parameters
	} else if params == nil {
		params = []string{}
	}
	k.target(r, p)
	for i, name := range r.Limits {
		k.routeLimit(name, p.to("limits").item(i), params)
	}
	if r.Idempotency != nil {
		k.idempotency(r, p.to("idempotency"), params)
	}
	if r.Respond != nil {
		k.respond(r.Respond, p.to("respond"))
	}
}

// target checks where a route leads.
func (k *checker) target(r *Route, p path) {
	members := k.among(p, "service", "transaction", "respond")
	switch {
	case len(members) == 0:
		k.fault(p, "leads nowhere: exactly one of service, transaction and respond is wanted")
	case len(members) > 1:
		k.fault(p.to(members[1]), "a route leads to exactly one of service, transaction and respond, and %s stands here too", members[0])
	}
	if slices.Contains(members, "respond") && k.written(p.to("idempotency")) {
		k.fault(p.to("idempotency"), "has nothing to protect: the route's answer is written here")
	}
	if slices.Contains(members, "service") {
		k.exists("services", "service", r.Service, p.to("service"))
	}
	if slices.Contains(members, "transaction") {
		k.exists("transactions", "transaction", r.Transaction, p.to("transaction"))
		if !k.written(p.to("idempotency")) {
			k.fault(p.to("transaction"), "needs idempotency on the route: its record is the transaction's record")
		}
		if !k.written(at("coordinator")) {
			k.fault(p.to("transaction"), "needs a coordinator, and none is configured")
		}
	}
	if k.written(p.to("status")) {
		k.status(r, p.to("status"), slices.Contains(members, "transaction"))
	}
}

func (k *checker) status(r *Route, p path, transaction bool) {
	if !transaction {
		k.fault(p, "%q belongs to a transaction, and this route leads to none", r.Status)
		return
	}
	params, err := checkPattern(r.Status)
	switch {
	case err != nil:
		k.fault(p, "%q %v", r.Status, err)
	case len(params) != 1 || params[0] != "id" || strings.HasSuffix(r.Status, "/**"):
		k.fault(p, "%q has to have one segment {id} and no other parameter", r.Status)
	}
}

// exists says when a name leads nowhere. The tree is asked and not the struct: what is at fault itself is there all the same.
func (k *checker) exists(key, what, name string, p path) bool {
	all := k.root.find(key)
	if all.broken || all.node != nil && all.node.byName[name] != nil {
		return true
	}
	var known []string
	if all.node != nil {
		for _, m := range all.node.members {
			known = append(known, m.name)
		}
	}
	k.fault(p, "there is no %s %q%s", what, name, suggestion(name, known))
	return false
}

func (k *checker) routeLimit(name string, p path, params []string) {
	if !k.exists("limits", "limit", name, p) || params == nil || k.c.Limits[name] == nil {
		return
	}
	for i, r := range k.c.Limits[name].Per {
		if lacks(r, params) && k.sound(at("limits", name, "per").item(i)) {
			k.fault(p, "limit %q counts per %s, and the route's path has no {%s}", name, r, r.Path[0])
		}
	}
}

func (k *checker) idempotency(r *Route, p path, params []string) {
	i := r.Idempotency
	k.key(i, p, params)
	refs := func(list []ref.Ref, key string) {
		added := len(list) - len(k.items(p.to(key))) // the principal that is always part of the scope
		if !k.written(p.to(key)) {
			return
		}
		for n, r := range list[max(added, 0):] {
			k.ref(r, p.to(key).item(n), params)
		}
	}
	refs(i.Scope, "scope")
	refs(i.Fingerprint, "fingerprint")
	for n, status := range i.Record {
		if status.From == status.To && slices.Contains([]int{408, 425, 429}, status.From) {
			k.fault(p.to("record").item(n), "%d is never final", status.From)
		}
	}
	for n, status := range i.Record {
		both := slices.ContainsFunc(i.NotExecuted, func(not StatusRange) bool { return not.Contains(status.From) })
		if status.From == status.To && both && k.sound(p.to("record").item(n)) {
			k.fault(p.to("record").item(n), "%d is in notExecuted too: it says that the request was done, or that it was not", status.From)
		}
	}
	if most := Size(64 << 20); i.MaxBody > most && k.sound(p.to("maxBody")) {
		k.fault(p.to("maxBody"), "%s is more than %s: what is kept is held in memory whole", i.MaxBody, most)
	}
	for n, status := range i.NotExecuted {
		if status.From <= 299 && status.To >= 200 {
			k.fault(p.to("notExecuted").item(n), "a 2xx says that the request was executed; its key would be free, and the next repeat executed again")
		}
	}
	if i.Lease > i.MaxInFlight && k.sound(p.to("lease"), p.to("maxInFlight")) {
		k.fault(k.firstWritten(p.to("lease"), p.to("maxInFlight")), "lease %s is more than maxInFlight %s", i.Lease, i.MaxInFlight)
	}
	if wait := p.to("whileInFlight", "wait"); i.WhileInFlight.Wait > i.MaxInFlight && k.sound(wait, p.to("maxInFlight")) {
		k.fault(k.firstWritten(wait, p.to("maxInFlight")), "whileInFlight.wait %s is more than maxInFlight %s", i.WhileInFlight.Wait, i.MaxInFlight)
	}
	if i.OnUnknown != "hold" && r.Transaction != "" {
		k.fault(p.to("onUnknown"), "%s is not for a transaction: its coordinator knows the outcome, nothing is sent again", i.OnUnknown)
	}
	k.probe(i, p, params)
	if r.Transaction == "" {
		return
	}
	var plain Idempotency
	setDefaults(&plain)
	for key, same := range map[string]bool{
		"record": slices.Equal(i.Record, plain.Record), "notExecuted": slices.Equal(i.NotExecuted, plain.NotExecuted), "maxBody": i.MaxBody == plain.MaxBody,
	} {
		if !same && k.sound(p.to(key)) {
			k.fault(p.to(key), "is not for a transaction: its outcome is recorded, and no service's answer")
		}
	}
	if i.OnStoreFailure == "open" {
		k.fault(p.to("onStoreFailure"), "open is not for a transaction: it has a record, or it is not begun")
	}
}

// probe checks how a service is asked about an unknown outcome.
func (k *checker) probe(i *Idempotency, p path, params []string) {
	switch probe := p.to("probe"); {
	case i.OnUnknown == "probe" && !k.written(probe) && k.sound(p.to("onUnknown")):
		k.fault(p.to("onUnknown"), "probe needs to know how the service is asked: probe: {path: /v1/orders/by-key/{key}}")
	case i.OnUnknown != "probe" && k.written(probe) && k.sound(p.to("onUnknown")):
		k.fault(probe, "belongs to onUnknown: probe, and onUnknown is %s", i.OnUnknown)
	}
	if i.Probe == nil || !k.written(p.to("probe")) {
		return
	}
	target := p.to("probe", "path")
	if k.written(target) && k.sound(target) {
		if why := literalFault(i.Probe.Path, "#", "has a fragment or a space"); why != "" {
			k.fault(target, "%q %s", i.Probe.Path, why)
		}
	}
	for _, r := range i.Probe.Path.Refs() {
		switch {
		case r.Root == ref.Steps || r.Root == ref.GID:
			k.fault(target, "%s: belongs to a transaction", r)
		case lacks(r, params):
			k.fault(target, "%s: the route's path has no {%s}", r, r.Path[0])
		}
	}
	for n, not := range i.Probe.NotDone {
		for _, status := range []int{401, 403, 407, 408, 425, 429, 500} {
			if at := p.to("probe", "notDone").item(n); (not.Contains(status) || status == 500 && not.To >= 500) && k.sound(at) {
				k.fault(at, "%s does not say that the request was not done: a service answers so that was not able, or not willing, to look", not)
				break
			}
		}
	}
	for _, done := range i.Probe.Done {
		for n, not := range i.Probe.NotDone {
			if done.From <= not.To && not.From <= done.To && k.sound(p.to("probe", "done"), p.to("probe", "notDone")) {
				at := k.firstWritten(p.to("probe", "notDone").item(n), p.to("probe", "done"))
				k.fault(at, "%s says both that it was done and that it was not", not)
			}
		}
	}
}

// firstWritten returns the first path that stands in the documents: a fault of two values is shown where one is written.
func (k *checker) firstWritten(paths ...path) path {
	for _, p := range paths {
		if k.written(p) {
			return p
		}
	}
	return paths[0]
}

// items returns the nodes of a list.
func (k *checker) items(p path) []*node {
	if s := k.root.find(p...); s.node != nil {
		return s.node.items
	}
	return nil
}

func (k *checker) key(i *Idempotency, p path, params []string) {
	source := p.to("key")
	members := k.among(source, "header", "body", "derived")
	switch {
	case len(members) > 1:
		k.fault(source.to(members[1]), "a key is exactly one of header, body and derived, and %s stands here too", members[0])
	case len(members) == 0 && k.written(source):
		k.fault(source, "is none of header, body and derived")
	}
	if slices.Contains(members, "derived") {
		if i.Required {
			k.fault(p.to("required"), "true is not for a derived key: no client sends it")
		}
	} else if k.written(source.to("window")) {
		k.fault(source.to("window"), "belongs to a derived key")
	}
	for n, r := range i.Key.Derived {
		k.ref(r, source.to("derived").item(n), params)
	}
}

// framing are the fields that the gateway itself sets for an answer.
var framing = []string{"Connection", "Content-Length", "Date", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func (k *checker) respond(r *Respond, p path) {
	if r.Body != "" && (r.Status == 204 || r.Status == 304) {
		k.fault(p.to("body"), "an answer with status %d has no body", r.Status)
	}
	for _, name := range sortedKeys(r.Headers) {
		field := p.to("headers", name)
		switch {
		case !ref.IsFieldName(name):
			k.fault(field, "%q is not the name of a header field", name)
		case slices.Contains(framing, textproto.CanonicalMIMEHeaderKey(name)):
			k.fault(field, "the gateway sets this field itself")
		case strings.ContainsFunc(r.Headers[name], func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }):
			k.fault(field, "has a control character")
		}
	}
}

// checkPattern checks the path of a route and returns the names of its {segments}.
func checkPattern(pattern string) (params []string, err error) {
	if !strings.HasPrefix(pattern, "/") {
		return nil, fmt.Errorf("has to begin with /")
	}
	if i := strings.IndexFunc(pattern, func(r rune) bool { return r == '?' || r == '#' || r <= 0x20 || r == 0x7f }); i >= 0 {
		return nil, fmt.Errorf("has %s, a path has none", strconv.QuoteRune(rune(pattern[i])))
	}
	segments := strings.Split(pattern[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "" && !last:
			return nil, fmt.Errorf("has an empty segment, and no request's path has one")
		case s == "." || s == "..":
			return nil, fmt.Errorf("has the segment %s, and no request's path has one", s)
		case s == "**" && last:
		case strings.Contains(s, "*"):
			return nil, fmt.Errorf("has %s: only a last segment ** stands for the rest", s)
		case strings.ContainsAny(s, "{}"):
			name, ok := strings.CutPrefix(s, "{")
			name, closed := strings.CutSuffix(name, "}")
			if !ok || !closed || !ref.IsParam(name) {
				return nil, fmt.Errorf("has %s: a parameter is a whole segment {name}", s)
			}
			if slices.Contains(params, name) {
				return nil, fmt.Errorf("has {%s} twice", name)
			}
			params = append(params, name)
		case escaped(s):
			return nil, fmt.Errorf("has %s: write the characters themselves, paths are matched decoded", s)
		}
	}
	return params, nil
}

// escaped reports whether a segment holds a percent-encoding.
func escaped(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if _, err := strconv.ParseUint(s[i+1:i+3], 16, 8); s[i] == '%' && err == nil {
			return true
		}
	}
	return false
}

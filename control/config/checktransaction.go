package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

func (k *checker) transaction(name string, t *Transaction, p path) {
	routes := k.routesTo(name)
	before := map[string]int{}
	for i, s := range t.Steps {
		if s == nil {
			continue
		}
		step := p.to("steps").item(i)
		if first, taken := before[s.Name]; taken && s.Name != "" {
			k.fault(step.to("name"), "%q is the name of steps[%d] too", s.Name, first)
		} else if s.Name != "" {
			before[s.Name] = i
		}
		for key, call := range map[string]*Call{"do": s.Do, "undo": s.Undo} {
			if call != nil {
				k.call(call, step.to(key), routes)
			}
		}
	}
	for i, s := range t.Steps {
		if s == nil {
			continue
		}
		for n, name := range s.After {
			if _, ok := before[name]; !ok && name != "" && !k.stepsBroken(p) {
				k.fault(p.to("steps").item(i).to("after").item(n), "there is no step %q%s", name, suggestion(name, sortedKeys(before)))
			}
		}
	}
	k.cycles(t.Steps, before, p.to("steps"))
}

// stepsBroken reports whether a step or its name is at fault, so that not all names are known.
func (k *checker) stepsBroken(p path) bool {
	for i := range k.items(p.to("steps")) {
		if name := p.to("steps").item(i).to("name"); !k.written(name) || !k.sound(name) {
			return true
		}
	}
	return false
}

// call checks one call of a step: its service, and every template in it.
func (k *checker) call(c *Call, p path, routes []transactionRoute) {
	if c.Service != "" {
		k.exists("services", "service", c.Service, p.to("service"))
	}
	if k.written(p.to("path")) {
		if why := callPathFault(c.Path); why != "" {
			k.fault(p.to("path"), "%q %s", c.Path, why)
		}
		k.template(c.Path, p.to("path"), routes)
	}
	k.body(c.Body, p.to("body"), routes)
}

func (k *checker) body(v any, p path, routes []transactionRoute) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			k.body(member, p.to(name), routes)
		}
	case []any:
		for i, item := range v {
			k.body(item, p.item(i), routes)
		}
	case ref.Template:
		k.template(v, p, routes)
	}
}

func (k *checker) template(t ref.Template, p path, routes []transactionRoute) {
	for _, r := range t.Refs() {
		if r.Root == ref.Steps {
			k.fault(p, "%s: answers of earlier steps need mode tcc: %s", r, notSupported)
		}
		if r.Root == ref.Key {
			k.fault(p, "key is known in the path of a probe only; a transaction has its gid")
		}
		for _, route := range routes {
			if lacks(r, route.params) {
				k.fault(p, "%s: the path of route %q, which starts this transaction, has no {%s}", r, route.name, r.Path[0])
			}
		}
	}
}

// callPathFault says what is wrong with the literal text of a call's path, or nothing.
func callPathFault(t ref.Template) string {
	return literalFault(t, "?#", "has a query, a fragment or a space; a call has a path only")
}

func literalFault(t ref.Template, not, why string) string {
	if len(t.Parts) == 0 || !strings.HasPrefix(t.Parts[0].Text, "/") {
		return "has to begin with /"
	}
	for _, part := range t.Parts {
		if strings.ContainsFunc(part.Text, func(r rune) bool { return r <= 0x20 || r == 0x7f || strings.ContainsRune(not, r) }) {
			return why
		}
	}
	return ""
}

// transactionRoute is a route that starts a transaction, with the parameters of its path.
type transactionRoute struct {
	name   string
	params []string
}

// routesTo returns the routes that start a transaction and whose path is sound.
func (k *checker) routesTo(transaction string) []transactionRoute {
	var routes []transactionRoute
	for i, r := range k.c.Routes {
		if r == nil || r.Transaction != transaction || !k.sound(at("routes", strconv.Itoa(i), "match", "path")) {
			continue
		}
		if params, err := checkPattern(r.Match.Path); err == nil {
			routes = append(routes, transactionRoute{r.Name, params})
		}
	}
	return routes
}

// cycles says when steps wait for one another: a walk along "after", deep first, that comes back to a step on its way.
func (k *checker) cycles(steps []*Step, index map[string]int, p path) {
	const onWay, done = 1, 2
	state := make([]int, len(steps))
	var way []string
	var walk func(i int)
	walk = func(i int) {
		state[i] = onWay
		way = append(way, steps[i].Name)
		for n, j := range predecessors(steps, i, index) {
			switch {
			case j < 0 || steps[j] == nil || state[j] == done:
			case state[j] == onWay:
				from := slices.Index(way, steps[j].Name)
				place := p.item(i)
				if after := place.to("after"); k.written(after) {
					place = after.item(n)
				}
				k.fault(place, "the steps wait for one another: %s", strings.Join(append(slices.Clone(way[from:]), steps[j].Name), " after "))
			default:
				walk(j)
			}
		}
		way = way[:len(way)-1]
		state[i] = done
	}
	for i, s := range steps {
		if s != nil && state[i] == 0 {
			walk(i)
		}
	}
}

// predecessors returns the indexes of the steps that step i comes after; -1 for a name that is not known.
func predecessors(steps []*Step, i int, index map[string]int) []int {
	if steps[i].After == nil {
		if i == 0 {
			return nil
		}
		return []int{i - 1}
	}
	list := make([]int, len(steps[i].After))
	for n, name := range steps[i].After {
		list[n] = -1
		if j, ok := index[name]; ok {
			list[n] = j
		}
	}
	return list
}

package config

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Transaction is one request over several services.
type Transaction struct {
	Mode    string   `json:"mode" jsonschema:"enum=saga,enum=tcc,enum=xa,enum=message"` // saga
	Wait    Duration `json:"wait"`
	Timeout Duration `json:"timeout"`
	Retry   Retry    `json:"retry"`
	Primary *Primary `json:"primary"`
	Notify  *Notify  `json:"notify"`
	KeepFor Duration `json:"keepFor" config:"min=0s,max=87600h"`
	Steps   []*Step  `json:"steps" jsonschema:"required,minItems=1,maxItems=99"`
}

func (Transaction) describe() descriptions {
	return descriptions{
		"":        "Requests over several services, all or nothing, by name.",
		"Mode":    "How it is run.",
		"Wait":    "How long the client is kept waiting before it gets 202.",
		"Timeout": "Not done by then: roll back.",
		"Retry":   "When a branch is called again.",
		"Primary": "The local transaction of a message.",
		"Notify":  "Where the end of a transaction is posted to.",
		"KeepFor": "How long DTM keeps what has ended, where it is sluice-dtm with its embedded store; " +
			"without it as long as that is told to.",
		"Steps": "The branches.",
	}
}

func (t *Transaction) setDefaults() {
	t.Mode, t.Wait, t.Timeout = "saga", duration(5*time.Second), duration(60*time.Second)
}

func (t *Transaction) check(s site) {
	name := s.path[len(s.path)-1]
	routes := s.routesTo(name)
	if !s.sound(s.at("mode")) {
		t = &Transaction{Steps: t.Steps, Primary: t.Primary} // what a step has is a matter of the mode
	}
	if t.KeepFor != 0 && t.KeepFor < duration(time.Hour) {
		s.fault(s.at("keepFor"), "%s is less than 1h: a gateway must have the time to see how it ended", t.KeepFor)
	}
	index := map[string]int{}
	for i, step := range t.Steps {
		if step == nil {
			continue
		}
		p := s.at("steps").item(i)
		s.fields(t, p)
		if first, taken := index[step.Name]; taken && step.Name != "" {
			s.fault(p.to("name"), "%q is the name of steps[%d] too", step.Name, first)
		} else if step.Name != "" {
			index[step.Name] = i
		}
	}
	for i, step := range t.Steps {
		if step == nil {
			continue
		}
		for n, name := range step.After {
			if _, ok := index[name]; !ok && name != "" && !s.stepsBroken(s.path) {
				p := s.at("steps").item(i).to("after").item(n)
				s.fault(p, "there is no step %q%s", name, suggestion(name, sortedKeys(index)))
			}
		}
	}
	s.stepCalls(t, index, routes)
	s.modeSettings(t, routes)
	s.cycles(t.Steps, index, s.at("steps"))
	if t.Mode != ModeSaga {
		return
	}
	if n := t.orderBytes(index); n > orderBytesMax {
		s.fault(s.at("steps"), "the order of the steps takes %d bytes at the coordinator, which has room for %d: "+
			"write fewer names in after", n, orderBytesMax)
	}
}

// stepCalls checks the calls of the steps.
func (s site) stepCalls(t *Transaction, index map[string]int, routes []transactionRoute) {
	for i, step := range t.Steps {
		if step == nil {
			continue
		}
		before := ancestors(t.Steps, i, index)
		calls := step.Calls()
		for _, key := range sortedKeys(calls) {
			if t.Mode != "" && !slices.Contains(modeFields[t.Mode], key) {
				continue // it is a fault itself
			}
			of := callSite{mode: t.Mode, routes: routes, answers: before, step: step.Name, steps: sortedKeys(index)}
			if key == "confirm" { // it is called when all tries are done
				of.answers = append(slices.Clone(before), step.Name)
			}
			s.call(calls[key], s.at("steps").item(i).to(key), of)
		}
	}
}

// orderBytesMax is the room for the order of a saga's steps: DTM keeps it in a column of 1024 characters, and a saga
// whose order is longer ends as rolled back without a reason.
const orderBytesMax = 1000

// orderBytes returns the length of the order as DTM keeps it; 0 where every step comes after the one before it.
func (t *Transaction) orderBytes(index map[string]int) int {
	orders, concurrent := map[int][]int{}, false
	for i, step := range t.Steps {
		if step == nil {
			continue
		}
		before := predecessors(t.Steps, i, index)
		if len(before) > 0 {
			orders[i] = before
		}
		concurrent = concurrent || i > 0 && (len(before) != 1 || before[0] != i-1)
	}
	if !concurrent {
		return 0
	}
	written, err := json.Marshal(map[string]any{"orders": orders, "concurrent": true})
	if err != nil { // maps of numbers: it cannot fail
		panic("config: " + err.Error())
	}
	return len(written)
}

// Retry says when a branch is called again: after every, which DTM doubles; the gateway holds it to max.
type Retry struct {
	Every Duration `json:"every"`
	Max   Duration `json:"max"`
}

func (Retry) describe() descriptions {
	return descriptions{
		"Every": "The first delay; DTM doubles it.",
		"Max":   "The longest delay; without it 30s, or the first delay where that is longer.",
	}
}

func (r *Retry) setDefaults() { r.Every = duration(3 * time.Second) }

// derive lets a first delay that is longer than 30 s stand alone.
func (r *Retry) derive(*files) {
	if r.Max == 0 {
		r.Max = max(duration(30*time.Second), r.Every)
	}
}

func (r *Retry) check(s site) {
	if r.Max < r.Every {
		s.fault(s.at("max"), "max %s is less than every %s", r.Max, r.Every)
	}
}

// Step is one branch. After is nil for "the step before it" and empty for "at once". Which calls it has is a matter
// of the mode; see modeFields.
type Step struct {
	Name    string        `json:"name" jsonschema:"required,pattern=^[a-z0-9-]{1\\,40}$"`
	After   []string      `json:"after" jsonschema:"uniqueItems=true"`
	Do      *Call         `json:"do"`
	Undo    *Call         `json:"undo"`
	Try     *Call         `json:"try"`
	Confirm *Call         `json:"confirm"`
	Cancel  *Call         `json:"cancel"`
	FailOn  []StatusRange `json:"failOn"`
}

func (Step) describe() descriptions {
	return descriptions{
		"Name":    "Unique in the transaction.",
		"After":   "The steps that come before; without it the one above, empty for at once.",
		"Do":      "The call that does it; of mode xa, where the service takes commit and rollback too.",
		"Undo":    "Of a saga: the call that undoes it.",
		"Try":     "Of TCC: the call that reserves.",
		"Confirm": "Of TCC: the call that makes it final, when all steps are tried.",
		"Cancel":  "Of TCC: the call that gives back what was reserved.",
		"FailOn": "Of a saga and TCC: responses by which the service refuses: roll back. " +
			"Any other outside 2xx is tried again.",
	}
}

func (s *Step) setDefaults() { s.FailOn = []StatusRange{{409, 409}, {422, 422}} }

// Call is one request to a service, made from templates. Body is any YAML value whose strings are templates; nil is
// no body.
type Call struct {
	Service   string        `json:"service" jsonschema:"required,minLength=1"`
	Method    string        `json:"method" jsonschema:"pattern=^[A-Z][A-Z-]*$"`
	Path      ref.Template  `json:"path" jsonschema:"required"`
	Body      any           `json:"body"`
	NothingOn []StatusRange `json:"nothingOn"` // of an undo and a cancel only
	// Headers are the fields of the call beside those that the gateway injects.
	Headers map[string]ref.Template `json:"headers"`
}

func (Call) describe() descriptions {
	return descriptions{
		"Service": "The service, by name.",
		"Method":  "The method.",
		"Path":    "The path, a template.",
		"Body":    "The JSON body; its texts are templates.",
		"NothingOn": "Of an undo or a cancel: responses by which the service says that there was nothing to undo. " +
			"They count as done.",
		"Headers": "Header fields; their values are templates.",
	}
}

func (c *Call) setDefaults() { c.Method = "POST" }

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
func (k *checker) call(c *Call, p path, of callSite) {
	if c.Service != "" {
		k.exists("services", "service", c.Service, p.to("service"))
	}
	if k.written(p.to("path")) {
		if why := callPathFault(c.Path); why != "" {
			k.fault(p.to("path"), "%q %s", c.Path, why)
		}
		k.template(c.Path, p.to("path"), of)
	}
	k.body(c.Body, p.to("body"), of)
	k.headers(c, p.to("headers"), of)
	k.nothingOn(c, p)
}

// headers checks the fields of a call: those that the gateway writes itself are not among them.
func (k *checker) headers(c *Call, p path, of callSite) {
	for _, name := range sortedKeys(c.Headers) {
		field := p.to(name)
		own := headerFault(name) != "" || slices.Contains([]string{"idempotency-key", "content-type"}, foldName(name))
		switch {
		case !ref.IsFieldName(name):
			k.fault(field, "%q is not %s", name, wantFieldName)
		case own:
			k.fault(field, "the gateway sets this field itself")
		}
		k.template(c.Headers[name], field, of)
	}
}

// nothingOn refuses the setting where it says nothing, and statuses by which a service did not look.
func (k *checker) nothingOn(c *Call, p path) {
	list := p.to("nothingOn")
	if !k.written(list) {
		return
	}
	if key := p[len(p)-1]; key != "undo" && key != "cancel" {
		k.fault(list, "only an undo and a cancel have nothingOn: a %s is refused by the statuses in failOn", key)
		return
	}
	for n, not := range c.NothingOn {
		for _, status := range []int{401, 403, 407, 408, 409, 425, 429, 500} {
			if at := list.item(n); (not.Contains(status) || status == 500 && not.To >= 500) && k.sound(at) {
				k.fault(at, "%s does not say that there was nothing to undo: "+
					"a service answers so that was not able, or not willing, to look", not)
				break
			}
		}
	}
}

func (k *checker) body(v any, p path, of callSite) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			k.body(member, p.to(name), of)
		}
	case []any:
		for i, item := range v {
			k.body(item, p.item(i), of)
		}
	case ref.Template:
		k.template(v, p, of)
	}
}

func (k *checker) template(t ref.Template, p path, of callSite) {
	for _, r := range t.Refs() {
		if r.Root == ref.Steps {
			k.stepRef(r, p, of)
		}
		k.headerRef(r, p)
		if r.Root == ref.Key {
			k.fault(p, "key is known in the path of a probe only; a transaction has its gid")
		}
		for _, route := range of.routes {
			if lacks(r, route.params) {
				k.fault(p, "%s: the path of route %q, which starts this transaction, has no {%s}",
					r, route.name, r.Path[0])
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
		if strings.ContainsFunc(part.Text, func(r rune) bool {
			return r <= 0x20 || r == 0x7f || strings.ContainsRune(not, r)
		}) {
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
	for i, r := range k.config.Routes {
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
func (s site) cycles(steps []*Step, index map[string]int, p path) {
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
				if after := place.to("after"); s.written(after) {
					place = after.item(n)
				}
				circle := append(slices.Clone(way[from:]), steps[j].Name)
				s.fault(place, "the steps wait for one another: %s", strings.Join(circle, " after "))
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

package config

import (
	"reflect"
	"strconv"
)

// The sections of the policies: a new policy is a file of its own, and one line here. They are embedded, so that a
// section is read as cfg.Services[name].Breaker.

// ConfigSections are those at the top level.
type ConfigSections struct {
	Identity Identities        `json:"identity"`
	Limits   map[string]*Limit `json:"limits" config:"merge"`
	Sales    map[string]*Sale  `json:"sales" config:"merge"`
}

// ServiceSections are those of a service.
type ServiceSections struct {
	Breaker  *Breaker   `json:"breaker"`
	Outlier  *Outlier   `json:"outlier"`
	Overload *Overload  `json:"overload"`
	Hedge    *Hedge     `json:"hedge"`
	Limits   LimitNames `json:"limits" jsonschema:"uniqueItems=true"`
}

// RouteSections are those of a route.
type RouteSections struct {
	CORS        *CORS        `json:"cors"`
	Allow       Addresses    `json:"allow"`
	Deny        Addresses    `json:"deny"`
	Priority    Priority     `json:"priority"`
	Limits      LimitNames   `json:"limits" jsonschema:"uniqueItems=true"`
	Fallback    *Fallback    `json:"fallback"`
	Idempotency *Idempotency `json:"idempotency"`
}

// What a section may have; it has only what it needs. Every struct of the model is one, and so is any type of its own.
type (
	// defaulter sets the values that hold where nothing is written. It is called before anything is decoded.
	defaulter interface{ setDefaults() }
	// deriver sets the defaults that depend on what is written, and makes paths absolute.
	deriver interface{ derive(f *files) }
	// checkable looks for what the schema cannot see.
	checkable interface{ check(s site) }
	// warner looks, where there is no fault, for what can never take effect.
	warner interface{ warn(s site) }
	// scope adds to a site what the sections below this one have to know.
	scope interface{ enter(s site) site }
	// described says in the JSON Schema what the fields are, by their names in Go; "" is the section itself.
	described interface{ describe() descriptions }
)

type descriptions map[string]string

func (ServiceSections) describe() descriptions {
	return descriptions{"Limits": "The limits of the service, whatever route or transaction calls it."}
}

func (RouteSections) describe() descriptions {
	return descriptions{
		"Allow": "The addresses of clients that may use the route; any other is 403.",
		"Deny":  "The addresses of clients that may not use the route: 403.",
	}
}

// walker goes through the sections of a value.
type walker struct {
	// visit is called for each section, an outer one before those in it. It returns the site for those.
	visit func(section any, s site) site
	// skip reports whether the sections of a route need not be visited. It is asked for each route, one after another.
	skip func(route int) bool
}

func (w *walker) walk(v reflect.Value, s site) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			w.walk(v.Elem(), s)
		}
		return
	case reflect.Map:
		for _, name := range sortedNames(v) {
			w.walk(v.MapIndex(reflect.ValueOf(name)), s.to(name))
		}
		return
	}
	if !v.CanAddr() {
		return
	}
	s = w.visit(v.Addr().Interface(), s)
	switch v.Kind() {
	case reflect.Slice:
		if !holdsSections(v.Type().Elem()) {
			return
		}
		routes := v.Type() == reflect.TypeFor[[]*Route]()
		for i := range v.Len() {
			if !routes || !w.skip(i) {
				w.walk(v.Index(i), s.to(strconv.Itoa(i)))
			}
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			// Most fields are plain values, and most sections are not written: with thousands of routes, a path for
			// each of these would take most of the time.
			if field := v.FieldByIndex(f.Index); f.sections && !isNil(field) {
				w.walk(field, s.to(f.key))
			}
		}
	}
}

func isNil(v reflect.Value) bool { return v.Kind() == reflect.Pointer && v.IsNil() }

// holdsSections tells whether a value of the type can have anything that [walk] is for.
func holdsSections(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		return holdsSections(t.Elem())
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	section := reflect.PointerTo(t)
	for _, i := range []reflect.Type{
		reflect.TypeFor[deriver](), reflect.TypeFor[checkable](), reflect.TypeFor[warner](), reflect.TypeFor[scope](),
	} {
		if section.Implements(i) {
			return true
		}
	}
	return false
}

// derive sets the defaults of a configuration that depend on what is written, but for routes that are shared.
func derive(config any, f *files, known knownList, step func()) {
	skip := func(route int) bool {
		step()
		return known.shared(route)
	}
	w := walker{skip: skip, visit: func(section any, s site) site {
		if d, ok := section.(deriver); ok {
			d.derive(f)
		}
		return s
	}}
	w.walk(reflect.ValueOf(config), site{})
}

// check adds the faults that the sections of a configuration find and, where there is none, their warnings. Routes that
// are shared have neither.
func check(config any, root *node, faults, warnings *faultList, known knownList, step func()) {
	c, _ := config.(*Config)
	top := site{checker: &checker{
		config: c, root: root, faults: faults, warnings: warnings, used: map[string]map[string]bool{}, step: step,
	}}
	top.useShared(known)
	checks := walker{visit: func(section any, s site) site {
		if e, ok := section.(scope); ok {
			s = e.enter(s)
		}
		if s.route == nil {
			top.using = nil
		}
		if c, ok := section.(checkable); ok {
			c.check(s)
		}
		return s
	}, skip: func(route int) bool {
		step()
		if top.using = nil; known.shared(route) {
			return true
		}
		top.using = known.at(route)
		return false
	}}
	checks.walk(reflect.ValueOf(config), top)
	top.using = nil
	if len(faults.list) > 0 {
		return
	}
	warns := walker{skip: func(route int) bool {
		step()
		return known.shared(route)
	}, visit: func(section any, s site) site {
		if e, ok := section.(scope); ok {
			s = e.enter(s)
		}
		if w, ok := section.(warner); ok {
			w.warn(s)
		}
		return s
	}}
	warns.walk(reflect.ValueOf(config), top)
}

// defaultsOf returns a new struct with the values that hold where nothing is written.
func defaultsOf(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return v.Elem()
}

// description returns what is said of a field in the schema: by its struct, or by the section that the field holds. The
// empty name is the struct itself.
func description(t reflect.Type, field string) string {
	if d, ok := reflect.New(t).Interface().(described); ok && d.describe()[field] != "" {
		return d.describe()[field]
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	f, ok := t.FieldByName(field)
	if !ok {
		return ""
	}
	inner := f.Type
	for {
		if d, ok := reflect.New(inner).Interface().(described); ok {
			return d.describe()[""]
		}
		switch inner.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			inner = inner.Elem()
		default:
			return ""
		}
	}
}

package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// field is a setting of a struct of the model.
type field struct {
	reflect.StructField
	key   string
	rules rules
	// sections: [walk] has something to do there.
	sections bool
}

// rules are what the config tag of a field says.
type rules struct {
	min, max string // of a duration or a size; a duration without a least one is at least 1ms
	file     bool   // a path of a file that must be there
	https    bool   // or an https URL
	member   bool   // a reference that is relative to the body
	secret   bool   // never shown
	merge    bool   // the files of a folder add to it
	same     bool   // the files of a folder may repeat it
	omitZero bool   // shown only where it is set
	example  string // of an address: what is wanted in place of a number
	cookie   bool   // the name of a cookie
}

// knownFields are the results of fieldsOf by type: a configuration has thousands of structs of a few types.
var knownFields sync.Map

// fieldsOf returns the settings of a struct in their order, those of embedded sections among them.
func fieldsOf(t reflect.Type) []field {
	if list, ok := knownFields.Load(t); ok {
		return list.([]field)
	}
	var list []field
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("json"); key != "" && key != "-" {
			list = append(list, field{f, key, rulesOf(f.Tag.Get("config")), holdsSections(f.Type)})
		}
	}
	knownFields.Store(t, list)
	return list
}

func rulesOf(tag string) rules {
	var r rules
	for _, rule := range strings.Split(tag, ",") {
		name, value, _ := strings.Cut(rule, "=")
		switch name {
		case "min":
			r.min = value
		case "max":
			r.max = value
		case "file":
			r.file = true
		case "https":
			r.https = true
		case "member":
			r.member = true
		case "secret":
			r.secret = true
		case "merge":
			r.merge = true
		case "same":
			r.same = true
		case "omitzero":
			r.omitZero = true
		case "example":
			r.example = value
		case "url":
			r.example = "http://127.0.0.1:7001"
		case "cookie":
			r.cookie = true
		}
	}
	return r
}

// fieldAt returns the field that a path leads to, or the one whose list or mapping it leads into; false for none.
func fieldAt(t reflect.Type, path []string) (last field, ok bool) {
	for _, step := range path {
		t = pointed(t)
		switch t.Kind() {
		case reflect.Slice, reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			fields := fieldsOf(t)
			i := slices.IndexFunc(fields, func(f field) bool { return f.key == step })
			if i < 0 {
				return field{}, false
			}
			last, ok, t = fields[i], true, fields[i].Type
		default:
			return field{}, false
		}
	}
	return last, ok
}

func pointed(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// isNamed reports whether a type is a mapping of names to sections, such as services.
func isNamed(t reflect.Type) bool {
	return t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Pointer && t.Elem().Elem().Kind() == reflect.Struct
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func sortedNames(v reflect.Value) []string {
	names := make([]string, 0, v.Len())
	for _, key := range v.MapKeys() {
		names = append(names, key.String())
	}
	slices.Sort(names)
	return names
}

// walkStructs calls visit once for every struct that is written as a mapping, from a type on.
func walkStructs(t reflect.Type, visit func(t reflect.Type)) {
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			if isText(t) || seen[t] || t.Name() == "" {
				return
			}
			seen[t] = true
			visit(t)
			for _, f := range fieldsOf(t) {
				walk(f.Type)
			}
		}
	}
	walk(t)
}

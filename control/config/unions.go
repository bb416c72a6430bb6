package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A union is a setting that is written in one of two ways: as a word, one of a few or any, or as a value. The schema,
// the decoder, the printer and the messages all ask the setting's type for what they need to know, and nothing else
// knows of its forms.
type union interface {
	// form says what may be written.
	form() unionForm
	// setWord takes a word in place of a value.
	setWord(word string)
	// word returns the word that is in force; empty where a value is.
	word() string
	// value is the pointer to the value; nil where the members of the type itself are it.
	value() any
}

// unionForm is how a union is written.
type unionForm struct {
	words []string
	text  bool               // any text is a word
	want  string             // says in a message what may be written
	value *jsonschema.Schema // of the value
}

// unionsOf returns the forms of the unions in a model, by their definition in the schema.
func unionsOf(model reflect.Type) map[string]unionForm {
	forms := map[string]unionForm{}
	walkStructs(model, func(t reflect.Type) {
		if u, ok := asUnion(t); ok {
			forms[t.Name()] = u.form()
		}
	})
	return forms
}

// isFormFault reports whether a value has none of a union's forms: what is wrong within one says more itself.
func isFormFault(k validator.ErrorKind) bool {
	switch k.(type) {
	case *kind.Type, *kind.Enum:
		return true
	}
	return false
}

func asUnion(t reflect.Type) (union, bool) {
	u, ok := reflect.New(t).Interface().(union)
	return u, ok
}

// schema is an if, not a oneOf: a fault is then about the form that was meant.
func (f unionForm) schema() *jsonschema.Schema {
	words := make([]any, len(f.words))
	for i, word := range f.words {
		words[i] = word
	}
	s := &jsonschema.Schema{
		Description: f.want,
		If:          &jsonschema.Schema{Type: "string"}, Then: &jsonschema.Schema{Enum: words}, Else: f.value,
	}
	switch {
	case f.text:
		s.Then = nil
	case f.value.Type == "string": // a text is a word only if it is one
		s.If = &jsonschema.Schema{Enum: words}
		s.Then = nil
	}
	return s
}

// unionForms are the forms by the type of the union: thousands of routes have one.
var unionForms sync.Map

func formOfUnion(u union) unionForm {
	t := reflect.TypeOf(u)
	if form, ok := unionForms.Load(t); ok {
		return form.(unionForm)
	}
	form := u.form()
	unionForms.Store(t, form)
	return form
}

// decodeUnion sets the word that is written; false where a value is.
func decodeUnion(u union, n *node) bool {
	word, ok := n.scalar.(string)
	if form := formOfUnion(u); n.kind != scalarNode || !ok || !form.text && !slices.Contains(form.words, word) {
		return false
	}
	u.setWord(word)
	return true
}

// describe says that the value is none of the forms.
func (f unionForm) describe(n *node) string {
	text, _ := n.scalar.(string)
	return fmt.Sprintf("%s is not %s%s", n.redacted(), f.want, suggestion(text, f.words))
}

// A status is a union of two forms without a word: a number, or a text such as 2xx.

// JSONSchema takes a status as a number or as text. The choice is an if, not a oneOf: a fault is then about the one
// that was meant.
func (StatusRange) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Description: wantStatus,
		If:          &jsonschema.Schema{Type: "string"},
		Then:        &jsonschema.Schema{Pattern: statusPattern},
		Else:        &jsonschema.Schema{Type: "integer", Minimum: "100", Maximum: "599"},
	}
}

// MarshalJSON writes one status as a number and a hundred as text.
func (r StatusRange) MarshalJSON() ([]byte, error) {
	if r.From == r.To {
		return strconv.AppendInt(nil, int64(r.From), 10), nil
	}
	return strconv.AppendQuote(nil, r.String()), nil
}

// exactlyOne says when not exactly one of some members of the section is written, and returns those that are, in the
// order of the document. what is the section, as in "a store is"; without one of them required, none at all is right.
func (s site) exactlyOne(what string, required bool, names ...string) []string {
	var found []string
	if l := s.root.find(s.path...); l.node != nil {
		for _, m := range l.node.members {
			if slices.Contains(names, m.name) {
				found = append(found, m.name)
			}
		}
	}
	all := func() string {
		list := make([]any, len(names))
		for i, name := range names {
			list[i] = name
		}
		return join(list, "and")
	}
	switch {
	case len(found) > 1:
		s.fault(s.at(found[1]), "%s exactly one of %s, and %s stands here too", what, all(), found[0])
	case len(found) == 0 && required && s.written(s.path):
		s.fault(s.path, "is none of %s", all())
	}
	return found
}

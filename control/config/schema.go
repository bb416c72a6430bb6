package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Schema returns the JSON Schema (draft 2020-12) of the configuration, made from the structs. It is the one that
// documents are checked with.
func Schema() ([]byte, error) {
	b, err := json.MarshalIndent(reflectSchema(reflect.TypeFor[Config]()), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	return b, nil
}

// compiledSchema is the schema as the validator takes it. It does not change, so it is made once.
var compiledSchema = sync.OnceValues(func() (*validator.Schema, error) {
	return compileSchema(reflect.TypeFor[Config]())
})

func compileSchema(model reflect.Type) (*validator.Schema, error) {
	b, err := json.Marshal(reflectSchema(model))
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	document, err := validator.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	const name = "sluice.schema.json"
	c := validator.NewCompiler()
	if err := c.AddResource(name, document); err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	s, err := c.Compile(name)
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	return s, nil
}

func reflectSchema(model reflect.Type) *jsonschema.Schema {
	definitions := map[string]*jsonschema.Schema{ // of types that cannot have a method for it, or need none
		"Ref": written(ref.Pattern, ref.Want), "Template": written(ref.TemplatePattern, ref.WantTemplate),
	}
	r := jsonschema.Reflector{
		Anonymous:                  true,
		RequiredFromJSONSchemaTags: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case reflect.TypeFor[netip.Prefix]():
				return written(prefixPattern, wantPrefix)
			case reflect.TypeFor[ref.Ref](), reflect.TypeFor[ref.Template]():
				return &jsonschema.Schema{Ref: "#/$defs/" + t.Name()}
			}
			if u, ok := asUnion(t); ok {
				definitions[t.Name()] = u.form().schema()
				return &jsonschema.Schema{Ref: "#/$defs/" + t.Name()}
			}
			return nil
		},
		LookupComment: description,
	}
	s := r.Reflect(reflect.New(model).Interface())
	maps.Copy(s.Definitions, definitions)
	s.Title = "Configuration of Sluice"
	free := map[string]*jsonschema.Schema{"^" + freePrefix: jsonschema.TrueSchema}
	s.Definitions[model.Name()].PatternProperties = free
	walkStructs(model, func(t reflect.Type) {
		if definition := s.Definitions[t.Name()]; definition != nil && definition.Properties != nil {
			addRules(definition, t, s.Definitions)
		}
	})
	maps.DeleteFunc(s.Definitions, func(_ string, d *jsonschema.Schema) bool { return d.Type == "array" })
	return s
}

// addRules writes into the schema of a struct what the reflector does not know: defaults, and the rules of its fields.
func addRules(definition *jsonschema.Schema, t reflect.Type, definitions jsonschema.Definitions) {
	defaults := defaultsOf(t)
	for _, f := range fieldsOf(t) {
		property, ok := definition.Properties.Get(f.key)
		if !ok {
			continue
		}
		v := defaults.FieldByIndex(f.Index)
		if !v.IsZero() && v.Kind() != reflect.Struct && v.Kind() != reflect.Pointer {
			property.Default = v.Interface()
		}
		addRange(property, f)
		list := definitions[f.Type.Name()]
		if f.Type.Kind() == reflect.Slice && list != nil { // a type of its own in Go, a plain list in a document
			own := *list // the schema is one for all settings of that type, what is said of them is not
			list = &own
			list.UniqueItems = strings.Contains(f.Tag.Get("jsonschema"), "uniqueItems=true")
			list.Description = property.Description
			definition.Properties.Set(f.key, list)
			continue
		}
		switch {
		case f.rules.member:
			property.Ref, property.Type, property.Pattern = "", "string", memberPattern
		case isNamed(f.Type):
			property.PropertyNames = &jsonschema.Schema{Pattern: namePattern}
		}
	}
}

// The least and the most that a setting may be which is written as text with a unit: for people and for the
// reference, since JSON Schema cannot compare texts. The decoder checks them.
const (
	leastKeyword = "x-minimum"
	mostKeyword  = "x-maximum"
)

func addRange(property *jsonschema.Schema, f field) {
	least := f.rules.min
	if least == "" && f.Type == reflect.TypeFor[Duration]() {
		least = "1ms"
	}
	extras := map[string]any{}
	if least != "" {
		extras[leastKeyword] = least
	}
	if f.rules.max != "" {
		extras[mostKeyword] = f.rules.max
	}
	if len(extras) > 0 {
		property.Extras = extras
	}
}

// written makes the schema of a value that is written as text of one form.
func written(pattern, want string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: pattern, Description: want}
}

const (
	memberPattern = `^[^.]+(\.[^.]+)*$`
	wantMember    = "a member of the JSON body such as order_no or cart.id"

	prefixPattern = `^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$`
	wantPrefix    = "an address block such as 10.0.0.0/8 or 192.0.2.7"
)

const namePattern = `^[A-Za-z0-9][A-Za-z0-9._-]*$`

var nameForm = regexp.MustCompile(namePattern)

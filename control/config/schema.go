package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"sync"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// Schema returns the JSON Schema (draft 2020-12) of the configuration, made from the structs. It is the one that documents
// are checked with.
func Schema() ([]byte, error) {
	b, err := json.MarshalIndent(reflectSchema(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("config: schema: %w", err)
	}
	return b, nil
}

// compiledSchema is the schema as the validator takes it. It does not change, so it is made once.
var compiledSchema = sync.OnceValues(func() (*validator.Schema, error) {
	b, err := Schema()
	if err != nil {
		return nil, err
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
})

func reflectSchema() *jsonschema.Schema {
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
			return nil
		},
		LookupComment: func(t reflect.Type, field string) string { return descriptions[t.Name()][field] },
	}
	s := r.Reflect(&Config{})
	s.Definitions["Ref"] = written(ref.Pattern, ref.Want)
	s.Definitions["Template"] = written(ref.TemplatePattern, ref.WantTemplate)
	s.Title = "Configuration of Sluice"
	addDefaults(s, reflect.TypeFor[Config](), map[reflect.Type]bool{})
	return s
}

// addDefaults writes the defaults of a struct, and of those below it, into the schema.
func addDefaults(s *jsonschema.Schema, t reflect.Type, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	definition := s.Definitions[t.Name()]
	if t.Kind() != reflect.Struct || seen[t] || definition == nil || definition.Properties == nil {
		return
	}
	seen[t] = true
	v := reflect.New(t)
	setDefaults(v.Interface())
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("json")
		property, ok := definition.Properties.Get(name)
		if !ok {
			continue
		}
		if f := v.Elem().Field(i); !f.IsZero() && f.Kind() != reflect.Struct && f.Kind() != reflect.Pointer {
			property.Default = f.Interface()
		}
		addDefaults(s, t.Field(i).Type, seen)
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

// JSONSchema is the form of a written duration.
func (Duration) JSONSchema() *jsonschema.Schema { return written(durationPattern, wantDuration) }

// JSONSchema is the form of a written size.
func (Size) JSONSchema() *jsonschema.Schema { return written(sizePattern, wantSize) }

// JSONSchema is the form of a written percentage.
func (Percent) JSONSchema() *jsonschema.Schema { return written(percentPattern, wantPercent) }

// JSONSchema is the form of a written rate.
func (Rate) JSONSchema() *jsonschema.Schema { return written(ratePattern, wantRate) }

// JSONSchema takes a status as a number or as text. The choice is an if, not a oneOf: a fault is then about the one that was meant.
func (StatusRange) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Description: wantStatus,
		If:          &jsonschema.Schema{Type: "string"},
		Then:        &jsonschema.Schema{Pattern: statusPattern},
		Else:        &jsonschema.Schema{Type: "integer", Minimum: "100", Maximum: "599"},
	}
}

// JSONSchema takes nothing: whoever writes such a setting is told that it does not exist yet.
func (Unsupported) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Description: notSupported, Not: &jsonschema.Schema{}}
}

// JSONSchema lists the conditions.
func (RetryCondition) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Enum: []any{RetryConnectFailure, RetryResetBeforeRequest}}
}

// JSONSchema takes reject, or how long to wait.
func (WhileInFlight) JSONSchema() *jsonschema.Schema {
	wait := jsonschema.NewProperties()
	wait.Set("wait", &jsonschema.Schema{Ref: "#/$defs/Duration", Description: descriptions["WhileInFlight"]["Wait"]})
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{Type: "string"},
		Then: &jsonschema.Schema{Enum: []any{"reject"}},
		Else: &jsonschema.Schema{
			Type: "object", Properties: wait, Required: []string{"wait"}, AdditionalProperties: jsonschema.FalseSchema,
		},
	}
}

// JSONSchemaExtend makes the body key a path within the body.
func (Key) JSONSchemaExtend(s *jsonschema.Schema) {
	if p, ok := s.Properties.Get("body"); ok {
		p.Ref, p.Type, p.Pattern = "", "string", memberPattern
	}
}

// JSONSchemaExtend lets the one priority there is be written.
func (Route) JSONSchemaExtend(s *jsonschema.Schema) {
	if p, ok := s.Properties.Get("priority"); ok {
		p.Ref, p.Enum, p.Default = "", []any{"normal"}, "normal"
	}
}

// JSONSchemaExtend gives the names of services, limits and transactions their form.
func (Config) JSONSchemaExtend(s *jsonschema.Schema) {
	for _, key := range namedKeys {
		if p, ok := s.Properties.Get(key); ok {
			p.PropertyNames = &jsonschema.Schema{Pattern: namePattern}
		}
	}
}

const namePattern = `^[A-Za-z0-9][A-Za-z0-9._-]*$`

var (
	nameForm  = regexp.MustCompile(namePattern)
	namedKeys = []string{"services", "limits", "transactions"}
)

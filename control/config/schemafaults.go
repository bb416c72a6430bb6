package config

import (
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/sluice-gateway/sluice/filters/ref"
)

const notSupported = "not supported yet"

// textForm is how a type is written: what it is, and its parser, which knows best what is wrong.
type textForm struct {
	want  string
	parse func(s string) error
}

func formOf[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](want string) textForm {
	return textForm{want, func(s string) error { return P(new(T)).UnmarshalText([]byte(s)) }}
}

// textForms are the types that are written as text, by their definition in the schema.
var textForms = map[string]textForm{
	"Duration":    formOf[Duration](wantDuration),
	"Size":        formOf[Size](wantSize),
	"ByteRate":    formOf[ByteRate](wantByteRate),
	"Percent":     formOf[Percent](wantPercent),
	"Rate":        formOf[Rate](wantRate),
	"HedgeAfter":  formOf[HedgeAfter](wantHedgeAfter),
	"StatusRange": formOf[StatusRange](wantStatus),
	"Instant":     formOf[Instant](wantInstant),

	"KubernetesPort": formOf[KubernetesPort](wantKubernetesPort),
	"Ref":            formOf[ref.Ref](ref.Want),
	"Template":       formOf[ref.Template](ref.WantTemplate),
}

// takesNumbers are those of them that may be written as a number too.
var takesNumbers = map[string]bool{"StatusRange": true, "KubernetesPort": true}

// patternWants say in words what the other patterns of the schema are.
var patternWants = map[string]string{
	prefixPattern: wantPrefix,
	memberPattern: wantMember,
	namePattern: "a name of letters, digits, dots, dashes and underlines, " +
		"with a letter or digit first",
	`^[a-z0-9._-]+$`:                  "a name of a-z, 0-9, dots, dashes and underlines",
	`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`: "a name of Kubernetes: a-z, 0-9 and dashes within it",
	`^[a-z0-9-]{1,40}$`:               "a name of a-z, 0-9 and dashes, 40 at most",
	`^[A-Z][A-Z-]*$`:                  "a method in capitals such as POST",
	"^[!#$%&'*+.^_|~0-9A-Za-z-]+$":    wantFieldName,
}

// What a name in a header is: a token, of which this is what a schema's pattern can say (it has no backquote).
const (
	tokenChars    = "a token of letters, digits and !#$%&'*+-.^_|~"
	wantFieldName = "the name of a header field, " + tokenChars
	wantCookie    = "the name of a cookie, " + tokenChars
)

// checkSchema validates the tree and adds a fault for everything that the schema refuses; what is at fault is marked as
// broken. The error says that the schema itself is not sound.
func checkSchema(schema *validator.Schema, model reflect.Type, root *node, faults *faultList) error {
	err := schema.Validate(root.plain())
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*validator.ValidationError](err)
	if !ok {
		return fmt.Errorf("config: %w", err)
	}
	c := &schemaFaults{model: model, root: root, faults: faults}
	c.walk(invalid)
	c.names()
	for _, n := range c.broken { // afterwards: two faults of one value are both told
		n.broken = true
	}
	return nil
}

type schemaFaults struct {
	model  reflect.Type // the struct that is checked
	root   *node
	faults *faultList
	broken []*node
}

func (c *schemaFaults) walk(e *validator.ValidationError) {
	if _, names := e.ErrorKind.(*kind.PropertyNames); len(e.Causes) > 0 && !names {
		for _, cause := range e.Causes {
			c.walk(cause)
		}
		return
	}
	if c.faults.full() {
		return
	}
	at := c.root.find(e.InstanceLocation...)
	if at.broken || at.node == nil {
		return
	}
	definition := definitionOf(e.SchemaURL)
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			if c.faults.full() {
				continue
			}
			c.unknownKey(e.InstanceLocation, name, e.SchemaURL)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			c.faults.add(at.at, "%s: is missing", memberName(at.name(), name))
		}
	case *kind.PropertyNames: // said by names
	case *kind.UniqueItems:
		second := c.root.find(append(slices.Clone(e.InstanceLocation), fmt.Sprint(k.Duplicates[1]))...)
		c.faults.add(second.at, "%s: %s is given twice", second.name(), second.node.redacted())
	default:
		c.faults.add(at.at, "%s: %s%s", at.nameOrRoot(), c.describe(e, at.node, definition), at.node.hint())
		c.broken = append(c.broken, at.node)
	}
}

// names says which names of services, limits and transactions the schema's propertyNames has refused. The validator
// does not tell it: the location in its error is one that it goes on changing.
func (c *schemaFaults) names() {
	for _, f := range fieldsOf(c.model) {
		all := c.root.find(f.key)
		if !isNamed(f.Type) || all.node == nil {
			continue
		}
		for _, m := range all.node.members {
			if !nameForm.MatchString(m.name) {
				c.faults.add(m.pos, "%s.%s: %q is not %s", f.key, m.name, m.name, patternWants[namePattern])
			}
		}
	}
}

func (c *schemaFaults) unknownKey(parent []string, name, schemaURL string) {
	wrong := c.root.find(append(slices.Clone(parent), name)...)
	if wrong.broken {
		return
	}
	var known []string
	if definition := definitionOf(schemaURL); strings.HasSuffix(schemaURL, "/"+definition) {
		known = keysOf(c.model, definition)
	}
	c.faults.add(wrong.key, "%s: unknown key%s%s", wrong.name(), suggestion(name, known), quoteHint(name))
	if wrong.node != nil {
		c.broken = append(c.broken, wrong.node)
	}
}

// describe says what is wrong with the value itself.
func (c *schemaFaults) describe(e *validator.ValidationError, n *node, definition string) string {
	if n.kind == scalarNode && n.scalar == nil {
		if k, ok := e.ErrorKind.(*kind.Type); ok && slices.Contains(k.Want, "object") {
			return "is empty; write {} for all the defaults"
		}
		return "is empty"
	}
	if f, ok := textForms[definition]; ok {
		text, ok := n.text()
		if _, isText := n.scalar.(string); ok && !n.secret && (isText || takesNumbers[definition]) {
			switch err := f.parse(text); {
			case err != nil && definition == "Template": // its parser tells of one place in it
				return n.redacted() + ": " + err.Error()
			case err != nil:
				return err.Error()
			}
		}
		return n.redacted() + " is not " + f.want
	}
	within := strings.Contains(e.SchemaURL, "/additionalProperties") // of a union's value
	if u, ok := unionsOf(c.model)[definition]; ok && isFormFault(e.ErrorKind) && !within {
		return u.describe(n)
	}
	f, _ := fieldAt(c.model, e.InstanceLocation)
	rules := f.rules
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		if _, number := n.scalar.(json.Number); number && rules.example != "" && slices.Contains(k.Want, "string") {
			return n.redacted() + " is a number, and not an address such as " + rules.example
		}
		return n.redacted() + " is not " + typeWords(k.Want)
	case *kind.Enum:
		return n.redacted() + " is not " + choice(k.Want) + suggestion(strings.Trim(n.redacted(), `"`), words(k.Want))
	case *kind.Minimum:
		return fmt.Sprintf("%s is less than %s", n.redacted(), k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("%s is more than %s", n.redacted(), k.Want.RatString())
	case *kind.MinItems:
		return "is empty, at least one entry is wanted"
	case *kind.MaxItems:
		return fmt.Sprintf("has %d entries, at most %d are taken", k.Got, k.Want)
	case *kind.MinLength:
		return "is empty"
	case *kind.Pattern:
		if rules.cookie {
			return n.redacted() + " is not " + wantCookie
		}
		if want := patternWants[k.Want]; want != "" {
			return n.redacted() + " is not " + want
		}
	}
	return e.ErrorKind.LocalizedString(message.NewPrinter(language.English))
}

// memberName returns the shown path of a member.
func memberName(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

func (s location) nameOrRoot() string {
	return cmp.Or(s.name(), "the configuration")
}

// definitionOf returns the name of the definition that a place in the schema belongs to.
func definitionOf(url string) string {
	_, rest, _ := strings.Cut(url, "#/$defs/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}

// keysOf returns the keys that a definition has.
func keysOf(model reflect.Type, definition string) []string {
	var keys []string
	walkStructs(model, func(t reflect.Type) {
		if t.Name() == definition {
			for _, f := range fieldsOf(t) {
				keys = append(keys, f.key)
			}
		}
	})
	return keys
}

func typeWords(types []string) string {
	names := map[string]string{
		"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
		"boolean": "true or false", "null": "empty",
	}
	var list []string
	for _, t := range types {
		list = append(list, names[t])
	}
	return strings.Join(list, " or ")
}

func words(values []any) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = fmt.Sprint(v)
	}
	return list
}

// choice joins values as "a, b or c".
func choice(values []any) string { return join(values, "or") }

func join(values []any, last string) string {
	list := words(values)
	if len(list) == 1 {
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + " " + last + " " + list[len(list)-1]
}

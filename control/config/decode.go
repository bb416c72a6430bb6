package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// decoder makes the structs from a tree that the schema was checked with. What is broken stays at its default, and an
// entry of a list that is broken stays empty, so that the others keep their index.
type decoder struct {
	files  *files
	faults *faultList
}

func (d *decoder) config(root *node) *Config {
	c := new(Config)
	d.value(reflect.ValueOf(c).Elem(), root, "", "")
	complete(c, d.files)
	return c
}

// value decodes a node. The name is the path for messages, the rule what the field's config tag says.
func (d *decoder) value(v reflect.Value, n *node, name, rule string) {
	if n.broken {
		return
	}
	switch to := v.Addr().Interface().(type) {
	case *netip.Prefix:
		d.prefix(to, n, name)
		return
	case *WhileInFlight:
		if n.kind == scalarNode { // reject
			to.Wait = 0
			return
		}
	case *ref.Template:
		d.template(to, n, name)
		return
	case encoding.TextUnmarshaler:
		d.text(v, to, n, name, rule)
		return
	}
	switch v.Kind() {
	case reflect.Interface:
		if body := d.body(n, name); body != nil {
			v.Set(reflect.ValueOf(body))
		}
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*Unsupported]() {
			return // the schema has refused it, or it is written as its default
		}
		v.Set(reflect.New(v.Type().Elem()))
		d.value(v.Elem(), n, name, rule)
	case reflect.Struct:
		d.mapping(v, n, name)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, m := range n.members {
			if m.value.broken {
				continue
			}
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(item, m.value, memberName(name, m.name), "")
			v.SetMapIndex(reflect.ValueOf(m.name), item)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
		for i, item := range n.items {
			d.value(v.Index(i), item, fmt.Sprintf("%s[%d]", name, i), "")
		}
	default:
		d.scalar(v, n, name, rule)
	}
}

func (d *decoder) mapping(v reflect.Value, n *node, name string) {
	setDefaults(v.Addr().Interface())
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("json")
		if key == "" {
			continue
		}
		if m := n.byName[key]; m != nil {
			d.value(v.Field(i), m.value, memberName(name, key), field.Tag.Get("config"))
		} else if field.Type.Kind() == reflect.Struct && !isText(field.Type) {
			d.mapping(v.Field(i), &node{kind: mappingNode}, "") // its defaults
		}
	}
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func (d *decoder) scalar(v reflect.Value, n *node, name, rule string) {
	switch s := n.scalar.(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(s)
			d.file(v, n, name, rule)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(s)
			return
		}
	case json.Number:
		if v.Kind() == reflect.Int {
			f, err := strconv.ParseFloat(s.String(), 64) // the schema has checked that it is whole and within its bounds
			if err == nil {
				v.SetInt(int64(f))
				return
			}
		}
	}
	d.fault(n, "%s: %s is not %s", name, n.show(), v.Kind())
}

// file makes a path absolute and reads the file: what the gateway could not read must not take effect.
func (d *decoder) file(v reflect.Value, n *node, name, rule string) {
	if rule != "file" || v.String() == "" {
		return
	}
	if strings.Contains(v.String(), "://") {
		d.fault(n, "%s: %s is not a file: an address is %s", name, n.show(), notSupported)
		return
	}
	path := d.files.absolute(v.String())
	v.SetString(path)
	if _, err := d.files.contents(path); err != nil {
		d.fault(n, "%s: cannot read %s: %v", name, path, reason(err))
	}
}

func (d *decoder) text(v reflect.Value, to encoding.TextUnmarshaler, n *node, name, rule string) {
	text, ok := n.text()
	if rule == "member" {
		if strings.HasPrefix(text, ref.Body+".") {
			d.fault(n, "%s: %s is within the body already: leave the body. out", name, n.show())
			return
		}
		text = ref.Body + "." + text
	}
	if err := to.UnmarshalText([]byte(text)); !ok || err != nil {
		switch {
		case n.secret || err == nil:
			d.fault(n, "%s: %s is not %s", name, n.show(), forms[v.Type().Name()].want)
		default:
			d.fault(n, "%s: %v", name, err)
		}
		return
	}
	d.bounds(to, n, name, rule)
}

// bounds checks a duration or a size against its rule, min=A,max=B.
func (d *decoder) bounds(value encoding.TextUnmarshaler, n *node, name, rule string) {
	least, most, _ := strings.Cut(rule, ",")
	least, most = strings.TrimPrefix(least, "min="), strings.TrimPrefix(most, "max=")
	switch to := value.(type) {
	case *Duration:
		floor := Duration(time.Millisecond)
		if least != "" {
			floor = mustParse(ParseDuration(least))
		}
		if *to < floor {
			d.fault(n, "%s: %s is less than %s", name, n.show(), floor)
		}
	case *Size:
		switch {
		case least != "" && *to < mustParse(ParseSize(least)):
			d.fault(n, "%s: %s is less than %s", name, n.show(), least)
		case most != "" && *to > mustParse(ParseSize(most)):
			d.fault(n, "%s: %s is more than %s", name, n.show(), most)
		}
	}
}

// mustParse is for what stands in the tags of the model.
func mustParse[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (d *decoder) prefix(to *netip.Prefix, n *node, name string) {
	text, _ := n.text()
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		d.fault(n, "%s: %s is not %s", name, n.show(), wantPrefix)
		return
	}
	*to = p.Masked()
}

// template parses what is written; what was filled in is text and no template.
func (d *decoder) template(to *ref.Template, n *node, name string) {
	t, err := ref.ParseTemplate(n.literal)
	switch {
	case err != nil && n.secret:
		d.fault(n, "%s: %s is not %s", name, n.show(), ref.WantTemplate)
	case err != nil:
		d.fault(n, "%s: %s: %v", name, n.show(), err)
	default:
		*to = t
	}
}

// body makes the value of [Call.Body]: map[string]any, []any, ref.Template, json.Number, bool or nil.
func (d *decoder) body(n *node, name string) any {
	if n.broken {
		return nil
	}
	switch n.kind {
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = d.body(item, fmt.Sprintf("%s[%d]", name, i))
		}
		return list
	case mappingNode:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.name] = d.body(m.value, memberName(name, m.name))
		}
		return object
	}
	if _, ok := n.scalar.(string); !ok {
		return n.scalar
	}
	var t ref.Template
	d.template(&t, n, name)
	return t
}

func (d *decoder) fault(n *node, format string, args ...any) {
	d.faults.add(n.pos, format, args...)
	n.broken = true
}

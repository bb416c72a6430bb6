package config

import (
	"encoding"
	"encoding/json"
	"errors"
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
	places map[string]position // gets those of the settings that name a file
	known  knownList           // of the routes
	step   func()              // lets others work
}

// into decodes a tree into the struct that a configuration is, and derives the defaults.
func (d *decoder) into(config any, root *node) {
	d.value(reflect.ValueOf(config).Elem(), root, nil, rules{})
	derive(config, d.files, d.known, d.step)
}

// value decodes a node. The name is the path for messages.
func (d *decoder) value(v reflect.Value, n *node, name *place, rule rules) {
	if n.broken {
		return
	}
	switch to := v.Addr().Interface().(type) {
	case *netip.Prefix:
		d.prefix(to, n, name)
		return
	case union:
		if decodeUnion(to, n) {
			return
		}
		if value := to.value(); value != nil {
			d.value(reflect.ValueOf(value).Elem(), n, name, rule)
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
			d.value(item, m.value, name.member(m.name), rules{})
			v.SetMapIndex(reflect.ValueOf(m.name), item)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
		for i, item := range n.items {
			d.step()
			if item.known != nil {
				v.Index(i).Set(reflect.ValueOf(item.known.forAnother()))
				continue
			}
			d.value(v.Index(i), item, name.item(i), rules{})
		}
	default:
		d.scalar(v, n, name, rule)
	}
}

func (d *decoder) mapping(v reflect.Value, n *node, name *place) {
	v.Set(defaultsOf(v.Type()))
	for _, f := range fieldsOf(v.Type()) {
		if m := n.member(f.key); m != nil {
			d.value(v.FieldByIndex(f.Index), m.value, name.member(f.key), f.rules)
		} else if f.Type.Kind() == reflect.Struct && !isText(f.Type) {
			d.mapping(v.FieldByIndex(f.Index), &node{kind: mappingNode}, nil) // its defaults
		}
	}
}

func (d *decoder) scalar(v reflect.Value, n *node, name *place, rule rules) {
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
			// The schema has checked that it is whole and within its bounds.
			if f, err := strconv.ParseFloat(s.String(), 64); err == nil {
				v.SetInt(int64(f))
				return
			}
		}
	}
	d.fault(n, "%s: %s is not %s", name, n.redacted(), v.Kind())
}

// file makes a path absolute and reads the file: what the gateway could not read must not take effect.
func (d *decoder) file(v reflect.Value, n *node, name *place, rule rules) {
	if !rule.file || v.String() == "" {
		return
	}
	if strings.Contains(v.String(), "://") {
		if rule.https {
			d.places[name.String()] = n.pos
			switch err := checkHTTPS(v.String()); {
			case errors.Is(err, errCredentials): // not shown
				d.fault(n, "%s: the URL %v", name, err)
			case err != nil:
				d.fault(n, "%s: %s %v", name, n.redacted(), err)
			}
			return
		}
		d.fault(n, "%s: %s is not a file: an address is %s", name, n.redacted(), notSupported)
		return
	}
	d.places[name.String()] = n.pos
	path := d.files.absolute(v.String())
	v.SetString(path)
	if _, err := d.files.contents(path); err != nil && !(d.files.away && (d.files.elsewhere || name.away())) {
		d.fault(n, "%s: cannot read %s: %v", name, path, reason(err))
	}
}

func (d *decoder) text(v reflect.Value, to encoding.TextUnmarshaler, n *node, name *place, rule rules) {
	text, ok := n.text()
	if rule.member {
		if strings.HasPrefix(text, ref.Body+".") {
			d.fault(n, "%s: %s is within the body already: leave the body. out", name, n.redacted())
			return
		}
		text = ref.Body + "." + text
	}
	if err := to.UnmarshalText([]byte(text)); !ok || err != nil {
		switch {
		case n.secret || err == nil:
			d.fault(n, "%s: %s is not %s", name, n.redacted(), textForms[v.Type().Name()].want)
		default:
			d.fault(n, "%s: %v", name, err)
		}
		return
	}
	d.bounds(to, n, name, rule)
}

// bounds checks a duration or a size against its rules.
func (d *decoder) bounds(value encoding.TextUnmarshaler, n *node, name *place, rule rules) {
	switch to := value.(type) {
	case *Duration:
		floor := Duration(time.Millisecond)
		if rule.min != "" {
			floor = mustParse(ParseDuration(rule.min))
		}
		switch {
		case *to < floor:
			d.fault(n, "%s: %s is less than %s", name, n.redacted(), floor)
		case rule.max != "" && *to > mustParse(ParseDuration(rule.max)):
			d.fault(n, "%s: %s is more than %s", name, n.redacted(), rule.max)
		}
	case *ByteRate:
		if rule.max != "" && *to > mustParse(parseByteRate(rule.max)) {
			d.fault(n, "%s: %s is more than %s", name, n.redacted(), rule.max)
		}
	case *Size:
		switch {
		case rule.min != "" && *to < mustParse(parseSize(rule.min)):
			d.fault(n, "%s: %s is less than %s", name, n.redacted(), rule.min)
		case rule.max != "" && *to > mustParse(parseSize(rule.max)):
			d.fault(n, "%s: %s is more than %s", name, n.redacted(), rule.max)
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

func (d *decoder) prefix(to *netip.Prefix, n *node, name *place) {
	text, _ := n.text()
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		d.fault(n, "%s: %s is not %s", name, n.redacted(), wantPrefix)
		return
	}
	*to = p.Masked()
}

// template parses what is written; what was expanded is text and no template.
func (d *decoder) template(to *ref.Template, n *node, name *place) {
	t, err := ref.ParseTemplate(n.literal)
	switch {
	case err != nil && n.secret:
		d.fault(n, "%s: %s is not %s", name, n.redacted(), ref.WantTemplate)
	case err != nil:
		d.fault(n, "%s: %s: %v", name, n.redacted(), err)
	default:
		*to = t
	}
}

// body makes the value of [Call.Body]: map[string]any, []any, ref.Template, json.Number, bool or nil.
func (d *decoder) body(n *node, name *place) any {
	if n.broken {
		return nil
	}
	switch n.kind {
	case listNode:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = d.body(item, name.item(i))
		}
		return list
	case mappingNode:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.name] = d.body(m.value, name.member(m.name))
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
	d.faults.add(n.pos, "%s%s", fmt.Sprintf(format, args...), n.hint())
	n.broken = true
}

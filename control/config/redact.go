package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// hidden stands for a secret.
const hidden = "***"

// origin is where a configuration came from.
type origin struct {
	files   []string   // absolute
	secrets [][]string // paths of values that something was expanded in
	hash    string
	dir     string            // what relative paths are relative to; absolute
	digests map[string]string // of the files that are referred to, by their absolute paths

	known knownList // what the next configuration can share of the routes
	rest  rest

	warnings []Warning
	places   map[string]position // of the settings that name a file
}

// Hash returns a short name for the contents that the configuration was made of: its files, and the bytes of the files
// they refer to. The same contents elsewhere have the same hash; what came from the environment is not part of it.
func (c *Config) Hash() string { return c.origin.hash }

// Files returns the absolute paths of everything that the configuration came from or refers to, so that a watcher can
// watch them. When it came from a folder, the folder itself is the first: files may be added to it.
func (c *Config) Files() []string { return slices.Clone(c.origin.files) }

// Dir returns the absolute path of the folder that relative paths are relative to.
func (c *Config) Dir() string { return c.origin.dir }

// FileDigests returns what tells whether a file that the configuration refers to has other contents, by its absolute
// path.
func (c *Config) FileDigests() map[string]string { return maps.Clone(c.origin.digests) }

// Redacted returns the configuration in force as JSON, every default written out and every secret as ***: all that came
// from ${env:…} and ${file:…}, and the fields that are secret by themselves.
func (c *Config) Redacted() ([]byte, error) { return redact(c, c.origin.secrets) }

// Settings returns the configuration in force as encoding/json with UseNumber would decode it, every default written
// out, to be compared with another one. seal stands in for each secret; a keyed digest tells whether two are the same
// and not what they are. nil hides them as [Config.Redacted] does.
func (c *Config) Settings(seal func(secret string) string) (map[string]any, error) {
	if seal == nil {
		seal = hideAll
	}
	v, err := settings(c, c.origin.secrets, seal)
	if err != nil {
		return nil, err
	}
	return v.(map[string]any), nil
}

// SharedRoute stands for a route that two configurations share, so that nothing of it differs.
type SharedRoute struct {
	Name  string
	Keyed bool // it has idempotency
}

// SettingsOfBoth returns the [Config.Settings] of two configurations that are compared. A route that [Reload] has
// taken from one into the other is a SharedRoute in both.
func SettingsOfBoth(old, new *Config, seal func(secret string) string) (before, after map[string]any, err error) {
	print := func(c, other *Config) map[string]any {
		p := &printer{seal: seal, shared: make(map[*Route]bool, len(other.Routes))}
		for _, r := range other.Routes {
			p.shared[r] = true
		}
		v, printErr := p.settings(c, c.origin.secrets)
		err = cmp.Or(err, printErr)
		settings, _ := v.(map[string]any)
		return settings
	}
	before, after = print(old, new), print(new, old) // in that order: err is not read before
	return before, after, err
}

// redact writes a configuration as JSON that can be loaded again but for its secrets. secrets are the paths of
// values that something was expanded in.
func redact(config any, secrets [][]string) ([]byte, error) {
	v, err := settings(config, secrets, hideAll)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b, nil
}

// hideAll is the seal that tells nothing.
func hideAll(string) string { return hidden }

// settings returns a configuration as a document has it, with its secrets sealed.
func settings(config any, secrets [][]string, seal func(string) string) (any, error) {
	return (&printer{seal: seal}).settings(config, secrets)
}

func (p *printer) settings(config any, secrets [][]string) (any, error) {
	v := p.printed(reflect.ValueOf(config), rules{})
	if p.err != nil {
		return nil, fmt.Errorf("config: %w", p.err)
	}
	for _, path := range secrets {
		hide(v, path, p.seal)
	}
	return v, nil
}

// printer makes of a model what encoding/json with UseNumber would make of its document. Nothing in it is the model's
// own, so that it can be changed.
type printer struct {
	seal   func(secret string) string
	err    error           // the first one
	shared map[*Route]bool // those that only a SharedRoute is made of
}

// printed returns a value as a document has it; nil for one that is not set.
func (p *printer) printed(v reflect.Value, rule rules) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		if v.IsNil() {
			return nil
		}
	}
	if rule.omitZero && v.IsZero() {
		return nil
	}
	if v.CanAddr() {
		if u, ok := v.Addr().Interface().(union); ok {
			if word := u.word(); word != "" {
				return word
			}
			if value := u.value(); value != nil {
				return p.printed(reflect.ValueOf(value), rule)
			}
		}
	}
	switch value := v.Interface().(type) {
	case *Route:
		if p.shared[value] {
			return SharedRoute{value.Name, value.Idempotency != nil}
		}
	case *ref.Ref:
		if rule.member {
			return strings.Join(value.Path, ".")
		}
	case json.Marshaler:
		return p.decoded(value)
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		p.err = cmp.Or(p.err, err)
		return string(text)
	}
	switch v.Kind() {
	case reflect.Pointer:
		return p.printed(v.Elem(), rule)
	case reflect.Struct:
		object := map[string]any{}
		for _, f := range fieldsOf(v.Type()) {
			if member := p.printed(v.FieldByIndex(f.Index), f.rules); member != nil && member != "" {
				object[f.key] = member
			}
		}
		return object
	case reflect.Map:
		object := map[string]any{}
		for _, name := range sortedNames(v) {
			if member := p.printed(v.MapIndex(reflect.ValueOf(name)), rule); member != nil && member != "" {
				object[name] = member
			}
		}
		return object
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = p.printed(v.Index(i), rule)
		}
		return list
	case reflect.String:
		if rule.secret && v.String() != "" {
			return p.seal(v.String())
		}
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return json.Number(strconv.FormatInt(v.Int(), 10))
	}
	return p.decoded(v.Interface()) // for instance the body of a call, which is the user's own
}

// decoded returns a value as it is after its way through a document.
func (p *printer) decoded(value any) (v any) {
	b, err := json.Marshal(value)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		err = d.Decode(&v)
	}
	p.err = cmp.Or(p.err, err)
	return v
}

// hide seals the value at a path, if there is one.
func hide(v any, path []string, seal func(string) string) {
	for i, step := range path {
		last := i == len(path)-1
		switch at := v.(type) {
		case map[string]any:
			if old, ok := at[step]; ok && last && old != "" {
				at[step] = sealed(old, seal)
			}
			v = at[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n >= len(at) {
				return
			}
			if last {
				at[n] = sealed(at[n], seal)
			}
			v = at[n]
		}
	}
}

// sealed seals a value that something was expanded in. One that the model seals already is sealed twice.
func sealed(v any, seal func(string) string) string { return seal(fmt.Sprint(v)) }

// secretPaths returns where something was expanded.
func secretPaths(n *node, path []string, to [][]string) [][]string {
	if n.secret {
		to = append(to, slices.Clone(path))
	}
	for i, item := range n.items {
		if item.known != nil { // without variables
			continue
		}
		to = secretPaths(item, append(path, strconv.Itoa(i)), to)
	}
	for _, m := range n.members {
		to = secretPaths(m.value, append(path, m.name), to)
	}
	return to
}

// digests returns a digest of each file that was read.
func (f *files) digests() map[string]string {
	all := make(map[string]string, len(f.list))
	for _, name := range f.list {
		sum := sha256.Sum256(f.read[name])
		all[name] = hex.EncodeToString(sum[:])
	}
	return all
}

// hash digests the documents and the files that they refer to, each with its length before it.
func hash(sources [][]byte, files *files) string {
	h := sha256.New()
	write := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, source := range sources {
		write(source)
	}
	for _, name := range files.list {
		write(files.read[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

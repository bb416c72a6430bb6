package config

import (
	"errors"
	"maps"
	"reflect"
	"slices"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// loader takes documents through all stages.
type loader struct {
	model    reflect.Type // the struct that the configuration is
	files    *files
	faults   *faultList
	warnings faultList
	expander *expander
	root     *node
	sources  [][]byte
	size     int  // bytes of the documents
	values   int  // in the documents
	failed   bool // a document has no tree: what it holds is unknown
	origin   origin

	before *Config           // what is in force; nil: nothing is shared with it
	known  map[string]*known // its routes
	found  int               // of these
	unsure bool              // not all that were taken out of a document have come up
	fresh  map[*node]*known  // other routes; nil where nobody asks for them
	list   knownList         // of all routes
	step   func()            // lets others work
}

func newLoader(dir string) (*loader, error) {
	files, err := newFiles(dir)
	if err != nil {
		return nil, err
	}
	faults := new(faultList)
	return &loader{
		model: reflect.TypeFor[Config](), files: files, faults: faults,
		expander: &expander{files: files, faults: faults}, step: func() {},
	}, nil
}

// document reads one document and merges it into the tree.
func (l *loader) document(name string, data []byte) {
	if l.size += len(data); l.size > documentsMax {
		l.faults.add(position{name, 1, 1}, "the files of the configuration have more than %d bytes in all",
			documentsMax)
		l.failed = true
		return
	}
	l.sources = append(l.sources, data)
	r := &reader{
		file: name, faults: l.faults, expand: l.expander.expand, earlier: l.values, known: l.known, step: l.step,
	}
	root := r.document(data)
	l.values += r.values
	l.found += r.found
	l.unsure = l.unsure || r.text != nil && r.found != r.text.taken
	if root != nil {
		root.dropFree()
		if l.fresh != nil {
			maps.Copy(l.fresh, r.knowable(root))
		}
	}
	switch {
	case root == nil:
		l.failed = true
	case l.root == nil:
		l.root = root
	case root.kind != mappingNode || l.root.kind != mappingNode:
		l.faults.add(root.pos, "a configuration is a mapping, this is %s", root.redacted())
		l.failed = true
	default:
		for _, m := range root.members {
			l.merge(m)
		}
	}
}

// merge adds a top-level member of a further file.
func (l *loader) merge(m *member) {
	if l.root.add(m) {
		return
	}
	first := l.root.member(m.name)
	to, from := first.value, m.value
	field, _ := fieldAt(l.model, []string{m.name})
	joined := &node{kind: to.kind, pos: to.pos, size: sum(to.size, from.size)} // a new one: an alias may share the old
	switch {
	case field.rules.merge && to.kind == listNode && from.kind == listNode:
		joined.items = slices.Concat(to.items, from.items)
		first.value = joined
	case field.rules.merge && to.kind == mappingNode && from.kind == mappingNode:
		first.value = joined
		for _, inner := range slices.Concat(to.members, from.members) {
			if !joined.add(inner) {
				earlier := joined.member(inner.name).pos
				l.faults.add(inner.pos, "%s.%s: given twice, first at %s:%d",
					m.name, inner.name, earlier.file, earlier.line)
			}
		}
	case field.rules.same && to.kind == scalarNode && from.kind == scalarNode:
		if to.scalar != from.scalar {
			l.faults.add(m.pos, "%s: %s, and at %s:%d it is %s",
				m.name, from.redacted(), first.pos.file, first.pos.line, to.redacted())
		}
	default:
		l.faults.add(m.pos, "%s: given twice, first at %s:%d", m.name, first.pos.file, first.pos.line)
	}
}

// config takes the tree through schema, structs and checks.
func (l *loader) config() (*Config, error) {
	schema, err := compiledSchema()
	if err != nil {
		return nil, err
	}
	if l.before != nil {
		if err := l.sharable(); err != nil {
			return nil, err
		}
	}
	c := new(Config)
	if err := l.into(c, schema); err != nil {
		if f, ok := errors.AsType[*FaultsError](err); ok && l.origin.places != nil {
			l.origin.files = append(l.origin.files, l.files.list...)
			c.origin, f.partial = l.origin, c
		}
		return nil, err
	}
	l.origin.files = append(l.origin.files, l.files.list...)
	if l.expander.used {
		l.origin.secrets = secretPaths(l.root, nil, nil)
	}
	l.origin.hash = hash(l.sources, l.files)
	l.origin.dir, l.origin.digests = l.files.dir, l.files.digests()
	for _, w := range l.warnings.sorted(l.faults.secrets) {
		l.origin.warnings = append(l.origin.warnings, Warning(w))
	}
	c.origin = l.origin
	if l.fresh != nil {
		l.remember(c, l.list)
	}
	return c, nil
}

// into decodes the tree into a pointer to the model's struct.
func (l *loader) into(config any, schema *validator.Schema) error {
	if l.failed || l.root == nil {
		return l.faults.err()
	}
	if l.expander.used {
		expandNumbers(l.root, l.model)
	}
	if err := checkSchema(schema, l.model, l.root, l.faults); err != nil {
		return err
	}
	l.origin.places = map[string]position{}
	l.list = l.knownList()
	d := &decoder{files: l.files, faults: l.faults, places: l.origin.places, known: l.list, step: l.step}
	d.into(config, l.root)
	check(config, l.root, l.faults, &l.warnings, l.list, l.step)
	return l.faults.err()
}

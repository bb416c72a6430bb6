package config

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
)

// Document is a configuration as it is written: what a control plane hands out. Variables (${env:…}, ${file:…}) and
// paths stand in it as they are written, since they are those of the gateway that it is for. It is never changed.
type Document struct {
	config   *Config
	root     *node
	json     []byte
	hash     string
	deferred []Location
	lack     map[*node]string // values that this machine cannot expand
	lacking  []Location
	secrets  []Location
}

// Location is where a value stands: the path as faults show it, and its file. Line and Column count from 1; they are 0
// where the file is not known.
type Location struct {
	Path         string
	File         string
	Line, Column int
}

// gatewaySections are those that each gateway has of its own, or that other programs read: they are no part of what a
// control plane hands out.
var gatewaySections = []string{"listen", "admin", "store", "control", "envoy"}

// controlSections are those that the control plane itself goes by: what they refer to has to be on its machine.
var controlSections = []string{"admin", "control", "envoy"}

// LoadDocument reads and checks a configuration from a file or folder, as [Load] does, on a machine that is not the
// gateway's: a variable or a file that this machine does not have is no fault, and neither is a value that a variable
// has here and that would not be right.
func LoadDocument(path string) (*Document, error) { return loadDocument(path, false) }

// LoadElsewhere is [LoadDocument] on a machine on which nothing runs that the configuration is for: what a control
// plane itself goes by need not be there either.
func LoadElsewhere(path string) (*Document, error) { return loadDocument(path, true) }

func loadDocument(path string, elsewhere bool) (*Document, error) {
	dir, names, err := locate(path)
	if err != nil {
		return nil, err
	}
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	l.files.away, l.files.elsewhere = true, elsewhere
	if err := l.read(path, names); err != nil {
		return nil, err
	}
	return l.asDocument()
}

// ParseDocument reads and checks a document from bytes. The name stands in faults.
func ParseDocument(name string, data []byte, dir string) (*Document, error) {
	return ParseDocuments([]File{{name, data}}, dir)
}

// ParseDocuments reads and checks a document from several files, as [LoadDocument] does from those of a folder.
func ParseDocuments(list []File, dir string) (*Document, error) {
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	l.files.away = true
	for _, f := range list {
		l.document(f.Name, f.Data)
	}
	return l.asDocument()
}

func (l *loader) asDocument() (*Document, error) {
	if l.root != nil && !l.failed {
		l.excuseAll()
	}
	c, err := l.config()
	if err != nil {
		return nil, err
	}
	return l.newDocument(c)
}

// excuseAll has no fault told of what this machine need not have.
func (l *loader) excuseAll() {
	if !l.files.elsewhere {
		for _, service := range l.services() {
			for _, m := range service.value.members {
				if m.name == "endpointsFrom" {
					l.refuseVariables(m.value)
				}
			}
		}
	}
	for _, m := range l.root.members {
		l.excuse(m.value, !l.files.elsewhere && slices.Contains(controlSections, m.name))
	}
}

func (l *loader) newDocument(c *Config) (d *Document, err error) {
	d = &Document{config: c, root: l.root}
	if d.json, err = canonical(l.root); err != nil {
		l.faults.add(l.root.pos, "%v", err)
		return nil, l.faults.err()
	}
	d.hash = DocumentHash(d.json)
	d.lack = l.expander.lack
	own := Document{lack: d.lack} // of what gateways are not sent only this counts: Envoys listen where listen says
	for _, m := range l.root.members {
		f, ok := fieldAt(l.model, []string{m.name})
		part := d
		if slices.Contains(gatewaySections, m.name) {
			part = &own
		}
		if ok {
			part.note(m.value, f.Type, (*place)(nil).member(m.name), f.rules)
		}
	}
	d.lacking = append(d.lacking, own.lacking...)
	return d, nil
}

// JSON returns the document as canonical JSON: keys in order, aliases and merge keys written out, variables and paths
// as they are written. Without what each gateway has of its own: listen, admin, store; and without control and envoy.
func (d *Document) JSON() []byte { return d.json }

// Hash returns a short name for the contents of JSON: the version.
func (d *Document) Hash() string { return d.hash }

// DocumentHash returns what [Document.Hash] is for a document's JSON.
func DocumentHash(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:6])
}

// Config returns the configuration as this machine reads it. What Deferred names has its default, or nothing, where
// this machine does not have what it is expanded to.
func (d *Document) Config() *Config { return d.config }

// Deferred returns the values that have a variable: the gateway expands and checks them.
func (d *Document) Deferred() []Location { return d.deferred }

// Lacking returns the values with a variable that this machine does not have, but for secrets: in Config they are not
// what any gateway makes of them.
func (d *Document) Lacking() []Location { return d.lacking }

// Secrets returns where a secret is written out. Such a document travels over mTLS only; what a variable stands for is
// never part of a document.
func (d *Document) Secrets() []Location { return d.secrets }

// Place returns where the value stands that a fault of this document begins with, as in `routes[2].service: there is
// no …`; or the nearest value around it. The fault may be one of a gateway, which does not know the files.
func (d *Document) Place(fault string) Location {
	n, pos, path, rest := d.root, d.root.pos, "", fault
	for {
		step, shown, remains := nextStep(n, rest)
		if step == "" {
			return Location{Path: path, File: pos.file, Line: pos.line, Column: pos.column}
		}
		n, pos = n.child(step)
		path, rest = path+shown, remains
		if n.kind == scalarNode && n.scalar != nil {
			pos = n.pos
		}
	}
}

// nextStep takes the next key or index off a path as it is shown. A key may have dots: the longest that is there wins.
func nextStep(n *node, text string) (step, shown, rest string) {
	switch n.kind {
	case listNode:
		index, behind, ok := strings.Cut(strings.TrimPrefix(text, "["), "]")
		if child, _ := n.child(index); ok && text[0] == '[' && child != nil {
			return index, "[" + index + "]", behind
		}
	case mappingNode:
		name := strings.TrimPrefix(text, ".")
		for _, m := range n.members {
			behind, ok := strings.CutPrefix(name, m.name)
			ends := behind == "" || strings.ContainsAny(behind[:1], ".[:")
			if ok && ends && len(m.name) > len(step) {
				step, shown, rest = m.name, text[:len(text)-len(behind)], behind
			}
		}
	}
	return step, shown, rest
}

// excuse has no fault told of values that the gateway expands, and tells of those that this machine would have to.
func (l *loader) excuse(n *node, own bool) {
	switch why, lacks := l.expander.lack[n]; {
	case lacks && own:
		l.faults.add(n.pos, "%s", why)
	case n.secret && !own:
		l.faults.excuse(n.pos)
	}
	for _, item := range n.items {
		l.excuse(item, own)
	}
	for _, m := range n.members {
		l.excuse(m.value, own)
	}
}

// services returns the services of the tree.
func (l *loader) services() []*member {
	if all := l.root.member("services"); all != nil {
		return all.value.members
	}
	return nil
}

// refuseVariables refuses variables where the control plane itself finds endpoints: what they stand for here is not
// what they stand for at a gateway, which checks the document too.
func (l *loader) refuseVariables(n *node) {
	if _, lacks := l.expander.lack[n]; lacks || n.secret {
		l.faults.add(n.pos, "a variable: endpoints are found by the control plane, and what it hands on is as it is "+
			"written, so that no variable can stand here")
	}
	for _, m := range n.members {
		l.refuseVariables(m.value)
	}
}

// note collects the values with variables and the secrets that are written out.
func (d *Document) note(n *node, t reflect.Type, at *place, rule rules) {
	here := Location{at.String(), n.pos.file, n.pos.line, n.pos.column}
	if _, lacks := d.lack[n]; lacks && !rule.secret {
		d.lacking = append(d.lacking, here)
	}
	if n.secret {
		d.deferred = append(d.deferred, here)
	}
	switch text, _ := n.scalar.(string); {
	case n.secret && !(rule.secret && writesDefault(n.source)):
	case rule.secret && text != "":
		d.secrets = append(d.secrets, here)
	}
	t = pointed(t)
	if u, ok := asUnion(t); ok && u.value() != nil {
		t = pointed(reflect.TypeOf(u.value()))
	}
	for i, item := range n.items {
		inner := reflect.TypeFor[any]()
		if t.Kind() == reflect.Slice {
			inner = t.Elem()
		}
		d.note(item, inner, at.item(i), rule)
	}
	for _, m := range n.members {
		inner, of := reflect.TypeFor[any](), rules{}
		switch t.Kind() {
		case reflect.Map:
			inner, of.secret = t.Elem(), rule.secret
		case reflect.Struct:
			if f, ok := fieldAt(t, []string{m.name}); ok {
				inner, of = f.Type, f.rules
			}
		}
		d.note(m.value, inner, at.member(m.name), of)
	}
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// Bootstrap is what a gateway of a fleet has of its own: how it is reached, where its state lies, and how it shows
// itself to the control plane. Anything else comes from there. It is read with [LoadBootstrap].
type Bootstrap struct {
	Version int            `json:"version" jsonschema:"enum=1"`
	Listen  Listen         `json:"listen"`
	Admin   Admin          `json:"admin"`
	Store   Store          `json:"store"`
	Data    string         `json:"data" jsonschema:"minLength=1"` // absolute after LoadBootstrap
	Control *ControlClient `json:"control"`                       // nil: without a certificate, loopback only

	bootstrapText
	path string   // absolute; empty where it is no file
	list []string // absolute paths of the files that it refers to
}

type bootstrapText struct {
	name string // in faults
	dir  string // what relative paths are relative to
	text []byte
}

func (Bootstrap) describe() descriptions {
	return descriptions{
		"":        "What a gateway of a fleet has of its own; the rest comes from a control plane.",
		"Version": "The version of this format: 1.",
		"Data":    "The folder of the last good configuration.",
	}
}

func (b *Bootstrap) setDefaults() { b.Version, b.Data = 1, "./control" }

func (b *Bootstrap) derive(f *files) { b.Data = f.absolute(b.Data) }

// ControlClient is how a gateway shows itself to the control plane, and knows it. Paths are absolute.
type ControlClient struct {
	Cert       string `json:"cert" jsonschema:"required,minLength=1" config:"file"`
	Key        string `json:"key" jsonschema:"required,minLength=1" config:"file"`
	CA         string `json:"ca" jsonschema:"minLength=1" config:"file"`
	ServerName string `json:"serverName" jsonschema:"minLength=1"`
}

func (ControlClient) describe() descriptions {
	return descriptions{
		"":     "How the gateway shows itself to the control plane: mTLS. Without it only one on loopback is called.",
		"Cert": "The file of the node's certificate chain, PEM. It says which node this may be.",
		"Key":  "The file of its private key, PEM.",
		"CA": "The file of the authorities that the control plane's certificate must come from, PEM; " +
			"without it the system's.",
		"ServerName": "The name that the control plane's certificate must have; without it the host that is called.",
	}
}

func (c *ControlClient) check(s site) {
	if c.ServerName != "" && !soundServerName(c.ServerName) {
		s.fault(s.at("serverName"), "%q is neither a host's name nor an address", c.ServerName)
	}
}

// LoadBootstrap reads the bootstrap file of a gateway; an empty path is one without any setting in the working
// directory. The error is as that of [Load].
func LoadBootstrap(path string) (*Bootstrap, error) {
	if path == "" {
		return ParseBootstrap("bootstrap", nil, "")
	}
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrUnreadable, path, reason(err))
	}
	b, err := ParseBootstrap(path, data, filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if b.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	return b, nil
}

// ParseBootstrap reads a bootstrap from bytes. The name stands in faults; dir is what relative paths are relative to.
func ParseBootstrap(name string, data []byte, dir string) (*Bootstrap, error) {
	of := bootstrapText{name: name, dir: dir, text: data}
	l, err := of.loader()
	if err != nil {
		return nil, err
	}
	schema, err := bootstrapSchema()
	if err != nil {
		return nil, err
	}
	b := new(Bootstrap)
	if err := l.into(b, schema); err != nil {
		return nil, err
	}
	b.bootstrapText, b.list = of, l.files.list
	return b, nil
}

var bootstrapSchema = sync.OnceValues(func() (*validator.Schema, error) {
	return compileSchema(reflect.TypeFor[Bootstrap]())
})

// loader returns one that has read the bootstrap's text.
func (b bootstrapText) loader() (*loader, error) {
	l, err := newLoader(b.dir)
	if err != nil {
		return nil, err
	}
	l.model = reflect.TypeFor[Bootstrap]()
	l.document(b.name, b.text)
	return l, nil
}

// Files returns the absolute paths of the file and of all that it refers to, as [Config.Files] does.
func (b *Bootstrap) Files() []string {
	if b.path == "" {
		return slices.Clone(b.list)
	}
	return append([]string{b.path}, b.list...)
}

// Empty returns the configuration of a gateway that has none yet: its bootstrap and nothing else.
func (b *Bootstrap) Empty() (*Config, error) { return b.Compose([]byte(`{"version":1}`)) }

// Compose makes the configuration of the gateway from a control plane's document ([Document.JSON]): what the bootstrap
// has of its own is added, variables and paths are expanded here, and the whole is checked. Faults of the document name
// the path of the value, those of the bootstrap file, line and column; the error is as that of [Load].
func (b *Bootstrap) Compose(document []byte) (*Config, error) {
	own, err := b.loader()
	if err != nil {
		return nil, err
	}
	if own.failed || own.root == nil {
		return nil, own.faults.err()
	}
	own.model = reflect.TypeFor[Config]()
	r := &jsonReader{
		faults: own.faults, expand: own.expander.expand, decoder: json.NewDecoder(bytes.NewReader(document)),
	}
	root, err := r.document(len(document))
	if err != nil {
		return nil, err
	}
	whole := &node{kind: mappingNode, pos: root.pos}
	for _, m := range root.members {
		if !slices.Contains(gatewaySections, m.name) {
			whole.add(m)
		}
	}
	for _, m := range own.root.members {
		if m.name != "version" && slices.Contains([]string{"listen", "admin", "store"}, m.name) {
			whole.add(m)
		}
	}
	own.root = whole
	own.sources = append(own.sources, document)
	if b.path != "" {
		own.origin.files = append(own.origin.files, b.path)
	}
	return own.config()
}

// Compose is [Bootstrap.Compose] with the bootstrap file read at once.
func Compose(document []byte, bootstrap string) (*Config, error) {
	b, err := LoadBootstrap(bootstrap)
	if err != nil {
		return nil, err
	}
	return b.Compose(document)
}

// ErrDocument says that what a control plane has sent is no document at all.
var ErrDocument = errors.New("config: not a configuration document")

// jsonReader makes nodes from the JSON of a document. They have no file; their column is their order.
type jsonReader struct {
	faults  *faultList
	expand  func(n *node, text string)
	decoder *json.Decoder
	values  int
}

func (r *jsonReader) document(size int) (*node, error) {
	if size > composedMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrDocument, size, composedMax)
	}
	r.decoder.UseNumber()
	n, err := r.value(nil, 0)
	if err == nil {
		if _, trailing := r.decoder.Token(); !errors.Is(trailing, io.EOF) {
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	if n.kind != mappingNode {
		return nil, fmt.Errorf("%w: not a mapping", ErrDocument)
	}
	return n, nil
}

func (r *jsonReader) value(at *place, depth int) (*node, error) {
	if r.values++; r.values > valuesAllMax {
		return nil, fmt.Errorf("more than %d values", valuesAllMax)
	}
	if depth > depthMax {
		return nil, fmt.Errorf("nested deeper than %d", depthMax)
	}
	n := &node{pos: position{column: r.values}, size: 1}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		return n, r.collection(n, t, at, depth)
	case string:
		before := len(r.faults.list)
		r.expand(n, t)
		for i := range r.faults.list[before:] { // where there is no line, the path says what it is about
			f := &r.faults.list[before+i]
			f.Message = at.String() + ": " + f.Message
		}
	default:
		n.scalar = t
	}
	return n, nil
}

// collection reads what stands between two brackets or braces.
func (r *jsonReader) collection(n *node, opening json.Delim, at *place, depth int) error {
	n.kind = listNode
	if opening == '{' {
		n.kind = mappingNode
	}
	for r.decoder.More() {
		m := &member{pos: position{column: r.values}}
		if n.kind == mappingNode {
			key, err := r.decoder.Token()
			if err != nil {
				return err
			}
			m.name, _ = key.(string)
			if len(m.name) > keyMax {
				return fmt.Errorf("a key of %d bytes, at most %d are read", len(m.name), keyMax)
			}
		}
		inner := at.item(len(n.items))
		if n.kind == mappingNode {
			inner = at.member(m.name)
		}
		value, err := r.value(inner, depth+1)
		if err != nil {
			return err
		}
		m.value = value
		if n.kind == listNode {
			n.items = append(n.items, value)
		} else if !n.add(m) {
			return fmt.Errorf("the key %.80q is given twice", m.name)
		}
	}
	_, err := r.decoder.Token()
	return err
}

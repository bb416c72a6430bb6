package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnreadable says that a file or folder of the configuration cannot be read.
var ErrUnreadable = errors.New("config: cannot read")

// Load reads the configuration from a file, or from a folder: all its *.yaml, *.yml and *.json files by name, those that begin
// with a dot and sub-folders left out. Over the files of a folder, maps (services, limits, transactions) are merged and the lists of
// routes joined in the order of the files; any other key stands in one file only.
//
// The error is a [*FaultsError] with every mistake, or wraps [ErrUnreadable] and says which path could not be read.
func Load(path string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrUnreadable, path, reason(err))
	}
	names, dir := []string{path}, filepath.Dir(path)
	if info.IsDir() {
		dir = path
		if names, err = documents(path); err != nil {
			return nil, err
		}
	}
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		l.origin.files = append(l.origin.files, l.files.dir)
	}
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("%w %s: %w", ErrUnreadable, name, reason(err))
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, fmt.Errorf("config: %s: %w", name, err)
		}
		l.origin.files = append(l.origin.files, abs)
		l.document(name, data)
	}
	return l.config()
}

// Parse reads the configuration from bytes. The name stands in faults; dir is what relative paths are relative to, empty is the
// working directory. The error is as that of [Load].
func Parse(name string, data []byte, dir string) (*Config, error) {
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	l.document(name, data)
	return l.config()
}

// documents returns the configuration files of a folder by name.
func documents(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("config: cannot read %s: %w", dir, reason(err))
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.IsDir() { // follows links: a mounted config map is made of them
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("config: folder %s has no *.yaml, *.yml or *.json file", dir)
	}
	return names, nil
}

// reason strips an error of the path, which the message names already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// loader takes documents through all stages.
type loader struct {
	files   *files
	faults  *faultList
	filler  *filler
	root    *node
	sources [][]byte
	failed  bool // a document has no tree: what it holds is unknown
	origin  origin
}

func newLoader(dir string) (*loader, error) {
	files, err := newFiles(dir)
	if err != nil {
		return nil, err
	}
	faults := new(faultList)
	return &loader{files: files, faults: faults, filler: &filler{files: files, faults: faults}}, nil
}

// document reads one document and merges it into the tree.
func (l *loader) document(name string, data []byte) {
	l.sources = append(l.sources, data)
	r := &reader{file: name, faults: l.faults, expand: l.filler.fill}
	root := r.document(data)
	switch {
	case root == nil:
		l.failed = true
	case l.root == nil:
		l.root = root
	case root.kind != mappingNode || l.root.kind != mappingNode:
		l.faults.add(root.pos, "a configuration is a mapping, this is %s", root.show())
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
	first := l.root.byName[m.name]
	to, from := first.value, m.value
	joined := &node{kind: to.kind, pos: to.pos, size: sum(to.size, from.size)} // a new one: an alias may share the old
	switch {
	case m.name == "routes" && to.kind == listNode && from.kind == listNode:
		joined.items = slices.Concat(to.items, from.items)
		first.value = joined
	case slices.Contains(mergedKeys, m.name) && to.kind == mappingNode && from.kind == mappingNode:
		first.value = joined
		for _, inner := range slices.Concat(to.members, from.members) {
			if !joined.add(inner) {
				earlier := joined.byName[inner.name].pos
				l.faults.add(inner.pos, "%s.%s: given twice, first at %s:%d", m.name, inner.name, earlier.file, earlier.line)
			}
		}
	default:
		l.faults.add(m.pos, "%s: given twice, first at %s:%d", m.name, first.pos.file, first.pos.line)
	}
}

var mergedKeys = []string{"services", "limits", "transactions", "sales"}

// config takes the tree through schema, structs and checks.
func (l *loader) config() (*Config, error) {
	if l.failed || l.root == nil {
		return nil, l.faults.err()
	}
	if err := checkSchema(l.root, l.faults); err != nil {
		return nil, err
	}
	d := &decoder{files: l.files, faults: l.faults}
	c := d.config(l.root)
	check(c, l.root, l.faults)
	if err := l.faults.err(); err != nil {
		return nil, err
	}
	l.origin.files = append(l.origin.files, l.files.list...)
	l.origin.secrets = secretPaths(l.root, nil, nil)
	l.origin.hash = hash(l.sources, l.files)
	c.origin = l.origin
	return c, nil
}

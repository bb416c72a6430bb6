package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnreadable says that a file or folder of the configuration cannot be read.
var ErrUnreadable = errors.New("config: cannot read")

// Load reads the configuration from a file, or from a folder: all its *.yaml, *.yml and *.json files by name, those
// that begin with a dot and sub-folders left out. Over the files of a folder, maps (services, limits, transactions)
// are merged and the lists of routes joined in the order of the files; the version may be repeated; any other key
// stands in one file only.
//
// The error is a [*FaultsError] with every mistake, or wraps [ErrUnreadable] and says which path could not be read.
func Load(path string) (*Config, error) { return load(path, nil, nil, func() {}) }

// Reload is [Load] where another configuration has been read before: what has not changed since is not read, checked
// and kept a second time. What it returns is the same. step is called again and again, so that it can spread the work
// out.
func Reload(path string, before *Config, step func()) (*Config, error) {
	routes := before.knownByText()
	for range 2 { // the second time without the routes for which something else has changed
		if len(routes) == 0 {
			break
		}
		c, err := load(path, before, routes, step)
		if err == nil {
			return c, nil
		}
		changed, ok := errors.AsType[changedError](err)
		if !ok {
			break
		}
		maps.DeleteFunc(routes, func(_ string, k *known) bool { return changed.affects(k) })
	}
	return load(path, nil, nil, step) // which tells what is at fault
}

// load reads the configuration; routes are those of the one before that can be shared.
func load(path string, before *Config, routes map[string]*known, step func()) (*Config, error) {
	dir, names, err := locate(path)
	if err != nil {
		return nil, err
	}
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	l.fresh, l.step = map[*node]*known{}, step
	if before != nil {
		if before.origin.dir != l.files.dir {
			return nil, errNotSharable
		}
		l.before, l.known = before, routes
	}
	if err := l.read(path, names); err != nil {
		return nil, err
	}
	return l.config()
}

// locate returns the folder that relative paths are relative to, and the files of a file or folder.
func locate(path string) (dir string, names []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, fmt.Errorf("%w %s: %w", ErrUnreadable, path, reason(err))
	}
	if !info.IsDir() {
		return filepath.Dir(path), []string{path}, nil
	}
	names, err = documents(path)
	return path, names, err
}

// read reads the files of a file or folder.
func (l *loader) read(path string, names []string) error {
	if len(names) != 1 || names[0] != path {
		l.origin.files = append(l.origin.files, l.files.dir)
	}
	for _, name := range names {
		data, err := readFile(name)
		if err != nil {
			return fmt.Errorf("%w %s: %w", ErrUnreadable, name, reason(err))
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			return fmt.Errorf("config: %s: %w", name, err)
		}
		l.origin.files = append(l.origin.files, abs)
		l.document(name, data)
	}
	return nil
}

// Documents returns the files that [Load] reads of a path, in their order, and the folder that relative paths in them
// are relative to: path itself where that is a folder. The error wraps [ErrUnreadable].
func Documents(path string) (names []string, dir string, err error) {
	dir, names, err = locate(path)
	return names, dir, err
}

// A File is a document of a configuration that is not read from this machine.
type File struct {
	Name string // stands in faults
	Data []byte
}

// ReadFiles returns the documents that [Load] reads of a path. The error wraps [ErrUnreadable].
func ReadFiles(path string) ([]File, error) {
	names, _, err := Documents(path)
	if err != nil {
		return nil, err
	}
	list := make([]File, len(names))
	for i, name := range names {
		data, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("%w %s: %w", ErrUnreadable, name, reason(err))
		}
		list[i] = File{name, data}
	}
	return list, nil
}

// ParseFiles reads the configuration from documents as [Load] does from the files of a folder; dir is what relative
// paths in them are relative to. The error is a [*FaultsError].
func ParseFiles(list []File, dir string) (*Config, error) {
	l, err := newLoader(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		l.document(f.Name, f.Data)
	}
	return l.config()
}

// Parse reads the configuration from bytes. The name stands in faults; dir is what relative paths are relative to,
// empty is the working directory. The error is as that of [Load].
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
		known := slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
		if strings.HasPrefix(e.Name(), ".") || !known {
			continue
		}
		// Stat follows links: a mounted config map is made of them.
		if info, err := os.Stat(name); err == nil && info.IsDir() {
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

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// files reads the files of a configuration and remembers them.
type files struct {
	dir  string // what relative paths are relative to; absolute
	read map[string][]byte
	errs map[string]error // of those that cannot be read
	list []string         // absolute paths in the order of reading
	size int              // bytes of what was read
	// elsewhere: those too that the control plane itself has in other cases. No value is read from a file then, so
	// that what this machine happens to have under the same name is never judged
	elsewhere bool
	away      bool // they are on another machine: that one is missing here is no fault
}

func newFiles(dir string) (*files, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("config: folder %q: %w", dir, err)
	}
	return &files{dir: abs, read: map[string][]byte{}, errs: map[string]error{}}, nil
}

// absolute resolves a path of the configuration.
func (f *files) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(f.dir, path)
}

// contents returns a file's bytes, read once. A file that cannot be read is remembered too: it may come.
func (f *files) contents(path string) ([]byte, error) {
	path = f.absolute(path)
	if b, ok := f.read[path]; ok {
		return b, f.errs[path]
	}
	if len(f.list) >= filesMax {
		return nil, fmt.Errorf("the configuration refers to more than %d files", filesMax)
	}
	f.list = append(f.list, path)
	b, err := f.readOnce(path)
	f.read[path], f.errs[path] = b, err
	return b, err
}

// readOnce reads a regular file: a pipe would be waited for at every reload, and a device has no end.
func (f *files) readOnce(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, errors.New("it is no regular file")
	}
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if f.size += len(b); f.size > filesAllMax {
		return nil, fmt.Errorf("the files that the configuration refers to have more than %d bytes", filesAllMax)
	}
	return b, nil
}

// readFile reads a file up to documentMax, so that a device or a wrong path does not take all memory.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, documentMax+1))
	if err == nil && len(b) > documentMax {
		return nil, fmt.Errorf("the file has more than %d bytes", documentMax)
	}
	return b, err
}

// expander replaces ${env:NAME}, ${env:NAME:-default} and ${file:PATH} in string scalars. Any other ${ stands for
// itself.
type expander struct {
	files  *files
	faults *faultList
	size   int // bytes of all that values were expanded to
	lack   map[*node]string
	used   bool // a value has a variable
}

// lacks tells that a value cannot be expanded, or notes it where another machine may have what this one lacks.
func (f *expander) lacks(n *node, why string) {
	if !f.files.away {
		f.faults.add(n.pos, "%s", why)
		return
	}
	if f.lack == nil {
		f.lack = map[*node]string{}
	}
	f.lack[n] = why
}

func (f *expander) expand(n *node, text string) {
	written := text
	var value, literal strings.Builder
	for {
		start, kind := nextVariable(text)
		if start < 0 {
			break
		}
		end := strings.IndexByte(text[start:], '}')
		if end < 0 {
			f.faults.add(n.pos, "%s is not closed by a }", text[start:])
			n.broken = true
			break
		}
		name := text[start+len(kind) : start+end]
		n.secret, n.source, f.used = true, written, true
		if f.size > expandAllMax { // which has been told
			n.broken = true
			break
		}
		secret, err := f.lookup(kind, name)
		if err != nil {
			n.broken = true
			f.lacks(n, fmt.Sprintf("%s%s}: %v", kind, name, err))
		}
		if f.size += len(secret); f.size > expandAllMax {
			f.faults.add(n.pos, "%s%s}: values are expanded to more than %d bytes in all", kind, name, expandAllMax)
			n.broken = true
			break
		}
		value.WriteString(text[:start] + secret)
		literal.WriteString(text[:start] + ref.Quote(secret))
		text = text[start+end+1:]
		f.faults.hide(secret)
	}
	n.scalar, n.literal = value.String()+text, literal.String()+text
}

const (
	variableEnv  = "${env:"
	variableFile = "${file:"
	defaultMark  = ":-" // behind the name of a variable: what it is where the environment has none
)

// writesDefault reports whether a text has a variable with a default that is not empty.
func writesDefault(text string) bool {
	for {
		start, kind := nextVariable(text)
		if start < 0 {
			return false
		}
		name, rest, closed := strings.Cut(text[start+len(kind):], "}")
		if _, usual, _ := strings.Cut(name, defaultMark); closed && kind == variableEnv && usual != "" {
			return true
		}
		text = rest
	}
}

// nextVariable returns where the next ${ to expand begins, and its opening; -1 without one. It looks at nothing behind
// that, so that all variables of a text take one walk over it.
func nextVariable(text string) (int, string) {
	for from := 0; ; from += len("${") {
		i := strings.Index(text[from:], "${")
		if i < 0 {
			return -1, ""
		}
		from += i
		for _, kind := range [...]string{variableEnv, variableFile} {
			if strings.HasPrefix(text[from:], kind) {
				return from, kind
			}
		}
	}
}

func (f *expander) lookup(kind, name string) (string, error) {
	if kind == variableEnv {
		name, usual, hasUsual := strings.Cut(name, defaultMark)
		value, ok := os.LookupEnv(name)
		switch {
		case value == "" && hasUsual: // not set, or set to nothing, as in a shell
			return usual, nil
		case !ok:
			return "", fmt.Errorf("the environment has no such variable")
		}
		return value, nil
	}
	if name == "" {
		return "", fmt.Errorf("a path is missing")
	}
	if f.files.elsewhere {
		return "", errors.New("the file is on another machine")
	}
	b, err := f.files.contents(name)
	switch {
	case err != nil:
		return "", reason(err)
	case len(b) > expandMax:
		return "", fmt.Errorf("the file has %d bytes, at most %d can be taken", len(b), expandMax)
	case !utf8.Valid(b):
		return "", fmt.Errorf("the file is not UTF-8 text")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// wholeNumber is the form of a number that a setting takes from the environment or a file.
var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// expandNumbers makes numbers of texts that ${…} was expanded to, where the model has a number. What is written as text
// stays text.
func expandNumbers(n *node, t reflect.Type) {
	t = pointed(t)
	if u, ok := asUnion(t); ok && u.value() != nil {
		t = pointed(reflect.TypeOf(u.value()))
	}
	text, _ := n.scalar.(string)
	switch {
	case n.kind == mappingNode && t.Kind() == reflect.Struct:
		for _, f := range fieldsOf(t) {
			if m := n.member(f.key); m != nil {
				expandNumbers(m.value, f.Type)
			}
		}
	case n.kind == mappingNode && t.Kind() == reflect.Map:
		for _, m := range n.members {
			expandNumbers(m.value, t.Elem())
		}
	case n.kind == listNode && t.Kind() == reflect.Slice:
		for _, item := range n.items {
			if item.known != nil {
				continue
			}
			expandNumbers(item, t.Elem())
		}
	case t.Kind() == reflect.Int && n.secret && wholeNumber.MatchString(text):
		n.scalar = json.Number(text)
	}
}

package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/sluice-gateway/sluice/filters/ref"
)

// hidden stands for a secret.
const hidden = "***"

// origin is where a configuration came from.
type origin struct {
	files   []string   // absolute
	secrets [][]string // paths of values with something filled in
	hash    string
}

// Hash returns a short name for the contents that the configuration was made of: its files, and the bytes of the files
// they refer to. The same contents elsewhere have the same hash; what the environment filled in is not part of it.
func (c *Config) Hash() string { return c.origin.hash }

// Files returns the absolute paths of everything that the configuration came from or refers to, so that a watcher can
// watch them. When it came from a folder, the folder itself is the first: files may be added to it.
func (c *Config) Files() []string { return slices.Clone(c.origin.files) }

// Redacted returns the configuration in force as JSON, every default written out and every secret shown as ***: all that came
// from ${env:…} and ${file:…}, the passwords of Redis and the encryption keys.
func (c *Config) Redacted() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	secrets := [][]string{{"store", "redis", "password"}, {"store", "redis", "sentinel", "password"}}
	if c.Store.Encryption != nil {
		for i := range c.Store.Encryption.Keys {
			secrets = append(secrets, []string{"store", "encryption", "keys", strconv.Itoa(i)})
		}
	}
	for _, path := range append(secrets, c.origin.secrets...) {
		hide(v, path)
	}
	b, err = json.MarshalIndent(prune(v), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return b, nil
}

// hide replaces the value at a path, if there is one.
func hide(v any, path []string) {
	for i, step := range path {
		last := i == len(path)-1
		switch at := v.(type) {
		case map[string]any:
			if old, ok := at[step]; ok && last && old != "" {
				at[step] = hidden
			}
			v = at[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n >= len(at) {
				return
			}
			if last {
				at[n] = hidden
			}
			v = at[n]
		}
	}
}

// prune leaves out the members that are not set, so that what is shown can be loaded again.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			switch {
			case member == nil || member == "":
				delete(v, name)
			case name != "body": // what a call sends is the user's own
				v[name] = prune(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// secretPaths returns where something was filled in.
func secretPaths(n *node, path []string, to [][]string) [][]string {
	if n.secret {
		to = append(to, slices.Clone(path))
	}
	for i, item := range n.items {
		to = secretPaths(item, append(path, strconv.Itoa(i)), to)
	}
	for _, m := range n.members {
		to = secretPaths(m.value, append(path, m.name), to)
	}
	return to
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

// MarshalJSON writes the key's source as the configuration does.
func (k Key) MarshalJSON() ([]byte, error) {
	switch {
	case k.Body != nil:
		return json.Marshal(struct {
			Body string `json:"body"`
		}{ref.Ref{Root: k.Body.Path[0], Path: k.Body.Path[1:]}.String()})
	case k.Derived != nil:
		return json.Marshal(struct {
			Derived []ref.Ref `json:"derived"`
			Window  Duration  `json:"window"`
		}{k.Derived, k.Window})
	}
	return json.Marshal(struct {
		Header string `json:"header"`
	}{k.Header})
}

// MarshalJSON writes 0 as reject.
func (w WhileInFlight) MarshalJSON() ([]byte, error) {
	if w.Wait == 0 {
		return []byte(`"reject"`), nil
	}
	return json.Marshal(struct {
		Wait Duration `json:"wait"`
	}{w.Wait})
}

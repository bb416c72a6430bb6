package plan

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Kind is what became of a setting.
type Kind string

// The kinds of changes.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
	Moved   Kind = "moved" // a route, among the others
)

// Hidden stands for a secret.
const Hidden = "***"

// Change is one difference between two configurations.
type Change struct {
	// Path is where it is: services.order.timeout, routes[create-order].idempotency.ttl.
	Path string `json:"path"`
	Kind Kind   `json:"kind"`
	// Old and New are the values as encoding/json with UseNumber decodes them, nil for none; of a route that moved
	// the places, from 1. Secrets are [Hidden].
	Old any `json:"old,omitempty"`
	New any `json:"new,omitempty"`
	// Restart says that a reload cannot make the change.
	Restart bool `json:"restart,omitempty"`
	// Effects say what becomes of what clients, stores and this process hold already.
	Effects []string `json:"effects,omitempty"`

	steps []string // of the path
}

// marks are what a change begins with where it is shown.
var marks = map[Kind]string{Added: "+", Removed: "-", Changed: "~", Moved: ">"}

// String returns the change in one line.
func (c Change) String() string { return c.text(0) }

// Text returns the change in one line, in which no value has more than so many bytes.
func (c Change) Text(valueBytesMax int) string { return c.text(valueBytesMax) }

func (c Change) text(most int) string {
	line := marks[c.Kind] + " " + c.Path
	switch c.Kind {
	case Added:
		return line + ": " + show(c.New, most)
	case Removed:
		return line
	case Moved:
		return fmt.Sprintf("%s: from place %v to %v", line, c.Old, c.New)
	}
	return line + ": " + show(c.Old, most) + " -> " + show(c.New, most)
}

// show writes a value as it may stand in YAML on one line.
func show(v any, most int) string {
	text := Inline(v)
	if most > 0 && len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// UnmarshalJSON reads a change that a gateway tells. Numbers stay as they are written.
func (c *Change) UnmarshalJSON(b []byte) error {
	type plain Change
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	return d.Decode((*plain)(c))
}

// Restarts returns the paths of the changes that take a restart.
func Restarts(changes []Change) []string {
	var paths []string
	for _, c := range changes {
		if c.Restart {
			paths = append(paths, c.Path)
		}
	}
	return paths
}

// Summary counts changes by their kind: "2 added, 1 changed", or "no change".
func Summary(changes []Change) string {
	counts := map[Kind]int{}
	for _, c := range changes {
		counts[c.Kind]++
	}
	var parts []string
	for _, k := range []Kind{Added, Changed, Removed, Moved} {
		if counts[k] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[k], k))
		}
	}
	if len(parts) == 0 {
		return "no change"
	}
	return strings.Join(parts, ", ")
}

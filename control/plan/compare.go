package plan

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/sluice-gateway/sluice/control/config"
)

// sealMark begins what stands in for a secret in a comparison. No text of a configuration has a NUL.
const sealMark = "\x00secret:"

// Compare returns what differs from one configuration to another, in the order of their paths; routes in the order in
// which they match. The error says that a configuration cannot be written as a document.
func Compare(old, new *config.Config) ([]Change, error) { return CompareMoved(old, new, "", "") }

// CompareMoved is [Compare] for a configuration that another folder has a copy of: a path below the old folder that
// is the same below the new one is no difference. The folders are absolute; empty: nothing was moved.
func CompareMoved(old, new *config.Config, oldDir, newDir string) ([]Change, error) {
	key := make([]byte, sha256.Size)
	rand.Read(key) // it does not fail
	seal := func(secret string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(secret))
		return sealMark + hex.EncodeToString(h.Sum(nil))
	}
	before, after, err := config.SettingsOfBoth(old, new, seal)
	if err != nil {
		return nil, err
	}
	if oldDir != newDir {
		before, _ = moved(before, after, oldDir, newDir).(map[string]any)
	}
	return CompareSettings(before, after), nil
}

// moved returns old with each path below oldDir that new has below newDir written as new has it.
func moved(old, new any, oldDir, newDir string) any {
	switch old := old.(type) {
	case map[string]any:
		other, _ := new.(map[string]any)
		for name, value := range old {
			old[name] = moved(value, other[name], oldDir, newDir)
		}
	case []any:
		other, _ := new.([]any)
		for i := range min(len(old), len(other)) {
			old[i] = moved(old[i], other[i], oldDir, newDir)
		}
	case string:
		before, path, ok := strings.Cut(old, oldDir+"/")
		if text := before + newDir + "/" + path; ok && text == new {
			return text
		}
	}
	return old
}

// ChangedFiles returns the absolute paths of the files that both configurations refer to, certificates and key sets
// for instance, and that have other contents in the second.
func ChangedFiles(old, new *config.Config) []string {
	before, after := old.FileDigests(), new.FileDigests()
	maps.DeleteFunc(after, func(path, digest string) bool {
		was, ok := before[path]
		return !ok || was == digest
	})
	return slices.Sorted(maps.Keys(after))
}

// CompareSettings is [Compare] for configurations as the admin address shows them ([config.Config.Redacted]).
func CompareSettings(old, new map[string]any) []Change {
	c := &comparison{old: old, new: new}
	c.objects(nil, old, new)
	for i := range c.changes {
		at := &c.changes[i]
		at.Path, at.Restart = pathOf(at.steps), needsRestart(at.steps)
		at.Effects = c.effects(at)
	}
	tellOnce(c.changes)
	for i := range c.changes { // the effects have looked at what is hidden
		c.changes[i].Old, c.changes[i].New = hide(c.changes[i].Old), hide(c.changes[i].New)
	}
	return c.changes
}

// tellOnce leaves what follows from several changes of one entry, a rate and its burst, at the first of them.
func tellOnce(changes []Change) {
	type fact struct{ entry, effect string }
	told := map[fact]bool{}
	for i := range changes {
		c := &changes[i]
		entry := pathOf(c.steps[:min(2, len(c.steps))])
		c.Effects = slices.DeleteFunc(c.Effects, func(effect string) bool {
			again := told[fact{entry, effect}]
			told[fact{entry, effect}] = true
			return again
		})
	}
}

type comparison struct {
	old, new map[string]any
	changes  []Change
}

func (c *comparison) add(kind Kind, steps []string, old, new any) {
	c.changes = append(c.changes, Change{Kind: kind, Old: old, New: new, steps: slices.Clone(steps)})
}

// values compares what stands at one path in both.
func (c *comparison) values(steps []string, old, new any) {
	switch was := old.(type) {
	case map[string]any:
		if is, ok := new.(map[string]any); ok {
			c.objects(steps, was, is)
			return
		}
	case []any:
		if is, ok := new.([]any); ok {
			c.lists(steps, was, is)
			return
		}
	}
	if !reflect.DeepEqual(old, new) {
		c.add(Changed, steps, old, new)
	}
}

func (c *comparison) objects(steps []string, old, new map[string]any) {
	names := sortedNames(old)
	for name := range new {
		if _, ok := old[name]; !ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(steps) == 0 && sectionOf(a) != sectionOf(b) {
			return sectionOf(a) - sectionOf(b)
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		was, before := old[name]
		is, after := new[name]
		at := append(steps, name)
		switch empty := []any{}; {
		case before && after:
			c.values(at, was, is)
		case isList(is) && !before: // a list that is not there is one without entries
			c.values(at, empty, is)
		case isList(was) && !after:
			c.values(at, was, empty)
		case before && named(steps, name): // its entries by themselves
			c.values(at, was, map[string]any{})
		case after && named(steps, name):
			c.values(at, map[string]any{}, is)
		case before:
			c.add(Removed, at, was, nil)
		default:
			c.add(Added, at, nil, is)
		}
	}
}

// sections is the order in which the top level is told.
var sections = []string{"version", "listen", "admin", "log", "tracing", "store", "identity", "services", "limits",
	"routes", "coordinator", "transactions", "sales"}

func sectionOf(name string) int {
	if i := slices.Index(sections, name); i >= 0 {
		return i
	}
	return len(sections)
}

// named reports whether a member at the top is a mapping of names to sections.
func named(steps []string, name string) bool {
	return len(steps) == 0 && slices.Contains([]string{"services", "limits", "transactions", "sales"}, name)
}

func isList(v any) bool {
	_, ok := v.([]any)
	return ok
}

// lists compares by name where every entry has one, else entry by entry.
func (c *comparison) lists(steps []string, old, new []any) {
	was, ok := byName(old)
	is, all := byName(new)
	switch {
	case ok && all && len(old)+len(new) > 0:
		c.entries(steps, was, is)
	case len(old) != len(new) || scalars(old) || scalars(new):
		if !reflect.DeepEqual(old, new) {
			c.add(Changed, steps, old, new)
		}
	default:
		for i := range old {
			c.values(append(steps, "["+strconv.Itoa(i)+"]"), old[i], new[i])
		}
	}
}

func scalars(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool { _, object := v.(map[string]any); return object })
}

// entry is one of a list whose entries have names. The value is nil where both configurations share it.
type entry struct {
	name  string
	value map[string]any
}

// byName returns the entries of a list; false when not each has a name of its own.
func byName(list []any) ([]entry, bool) {
	entries, seen := make([]entry, len(list)), make(map[string]bool, len(list))
	for i, v := range list {
		if shared, ok := v.(config.SharedRoute); ok {
			entries[i].name, seen[shared.Name] = shared.Name, true
			continue
		}
		object, _ := v.(map[string]any)
		name, ok := object["name"].(string)
		if !ok || seen[name] {
			return nil, false
		}
		seen[name] = true
		entries[i] = entry{name, object}
	}
	return entries, true
}

func (c *comparison) entries(steps []string, old, new []entry) {
	// What both begin or end with is at its place: of thousands of routes a reload changes a few.
	head := 0
	for head < min(len(old), len(new)) && old[head].name == new[head].name {
		head++
	}
	tail := 0
	for tail < min(len(old), len(new))-head && old[len(old)-1-tail].name == new[len(new)-1-tail].name {
		tail++
	}
	c.same(steps, old[:head], new[:head])
	was, is := old[head:len(old)-tail], new[head:len(new)-tail]
	before, moved := places(was), movedNames(was, is)
	for place, e := range is {
		at := append(steps, "["+e.name+"]")
		i, ok := before[e.name]
		if !ok {
			c.add(Added, at, nil, e.value)
			continue
		}
		if moved[e.name] {
			c.add(Moved, at, head+i+1, head+place+1)
		}
		c.objects(at, was[i].value, e.value)
	}
	c.same(steps, old[len(old)-tail:], new[len(new)-tail:])
	after := places(is)
	for _, e := range was {
		if _, ok := after[e.name]; !ok {
			c.add(Removed, append(steps, "["+e.name+"]"), e.value, nil)
		}
	}
}

// same compares entries of the same names.
func (c *comparison) same(steps []string, old, new []entry) {
	for i, e := range new {
		if e.value != nil || old[i].value != nil { // else both are shared
			c.objects(append(steps, "["+e.name+"]"), old[i].value, e.value)
		}
	}
}

func places(list []entry) map[string]int {
	at := make(map[string]int, len(list))
	for i, e := range list {
		at[e.name] = i
	}
	return at
}

// movedNames returns the fewest names that have to change their place among those of both lists.
func movedNames(old, new []entry) map[string]bool {
	before := places(old)
	var order []int // places in the old list, in the new order
	for _, e := range new {
		if i, ok := before[e.name]; ok {
			order = append(order, i)
		}
	}
	moved := map[string]bool{}
	for _, i := range order {
		moved[old[i].name] = true
	}
	for _, i := range longestIncreasing(order) {
		delete(moved, old[i].name)
	}
	return moved
}

// longestIncreasing returns a longest increasing subsequence of different numbers.
func longestIncreasing(list []int) []int {
	ends := []int{}                  // ends[n] is the index of the least number that a run of n+1 ends with
	before := make([]int, len(list)) // of each index, the one before it in its run; -1 for none
	for i, v := range list {
		n, _ := slices.BinarySearchFunc(ends, v, func(end, v int) int { return list[end] - v })
		before[i] = -1
		if n > 0 {
			before[i] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, i)
		} else {
			ends[n] = i
		}
	}
	if len(ends) == 0 {
		return nil
	}
	run := make([]int, 0, len(ends))
	for i := ends[len(ends)-1]; i >= 0; i = before[i] {
		run = append(run, list[i])
	}
	slices.Reverse(run)
	return run
}

// pathOf writes a path as it is shown.
func pathOf(steps []string) string {
	var b strings.Builder
	for i, s := range steps {
		if i > 0 && s[:min(1, len(s))] != "[" {
			b.WriteByte('.')
		}
		if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
			s = strconv.Quote(s) // an item's name may hold what a terminal would obey
		}
		b.WriteString(s)
	}
	return b.String()
}

// hide returns a value with *** for what is sealed.
func hide(v any) any {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, sealMark) {
			return Hidden
		}
	case map[string]any:
		shown := make(map[string]any, len(v))
		for name, member := range v {
			shown[name] = hide(member)
		}
		return shown
	case []any:
		shown := make([]any, len(v))
		for i, item := range v {
			shown[i] = hide(item)
		}
		return shown
	}
	return v
}

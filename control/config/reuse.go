package config

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What a reload does not read again: the routes whose lines are the same as in the configuration in force.
//
// A route that is an entry of a block list is a run of whole lines: it ends before the next line that is not indented
// deeper than its dash. Where such lines begin outside of quotes, brackets and block texts, and have no anchor, alias,
// tag, variable or escape, they mean the same wherever they stand. So they are taken out of the text before it is
// parsed, one entry stands for a run of them, and the values that were made of them are shared: values of a [Config]
// are never changed.
//
// The checks of a route look at the route and at other sections, never at other routes; of services, limits and
// transactions only at those that it names and, behind a transaction, at any service. So they are not made again where
// all that has the same contents as before, with what variables stand for.
//
// Nothing of this shows: whatever is at fault, or is not as it was expected, has the whole read again without it.

// known is a route as the configuration before has it.
type known struct {
	text    string // its lines, without the last line's end
	lines   int    // of them
	column  int    // where its value begins in the first line
	size    int    // of its node
	depth   int    // of its node
	counted int    // what the outline counts in its lines
	uses    []use  // what it names
	route   *Route // nil until it has been found sound
}

// use is a name of a service, a limit or a transaction.
type use struct{ key, name string }

// forAnother returns the route for another configuration, in which no sale lists it yet.
func (k *known) forAnother() *Route {
	if k.route.Sale == "" {
		return k.route
	}
	own := *k.route
	own.Sale = ""
	return &own
}

// knownList has for each route what it is known by; nil for one that is not shared with another configuration. A list
// that is shorter has none for the others.
type knownList []*known

func (l knownList) at(route int) *known {
	if route < len(l) {
		return l[route]
	}
	return nil
}

// shared reports whether a route comes from the configuration before.
func (l knownList) shared(route int) bool {
	k := l.at(route)
	return k != nil && k.route != nil
}

// knownByText returns the routes that can be shared by their text.
func (c *Config) knownByText() map[string]*known {
	if c == nil {
		return nil
	}
	all := make(map[string]*known, len(c.origin.known))
	for _, k := range c.origin.known {
		if k != nil {
			all[k.text] = k
		}
	}
	return all
}

var errNotSharable = errors.New("config: the configuration before cannot be built upon")

// entryLines returns how many lines from one on an entry of a block list has, and the indentation of its dash; 0 where
// none begins.
func entryLines(lines []string) (n, indent int) {
	first := strings.TrimLeft(lines[0], " ")
	if !strings.HasPrefix(first, "- ") {
		return 0, 0
	}
	indent = len(lines[0]) - len(first)
	n = 1
	for i, line := range lines[1:] {
		content := strings.TrimLeft(line, " \t\r")
		if content == "" || content[0] == '#' {
			continue // between entries unless more of this one follows
		}
		if len(line)-len(content) <= indent {
			break
		}
		n = i + 2
	}
	return n, indent
}

// meansTheSame reports whether lines mean the same wherever they stand. It knows no more of YAML than it has to.
func meansTheSame(text string) bool {
	before := byte(' ')
	for i := range len(text) {
		c := text[i]
		switch {
		case c < ' ' && c != '\n', c >= 0x7f, c == '\\':
			return false
		case c == '$' && strings.HasPrefix(text[i:], "${"):
			return false
		case (c == '&' || c == '*' || c == '!') && strings.IndexByte(" \n[]{},:-?\"'", before) >= 0:
			return false
		}
		before = c
	}
	return true
}

// lineState is how it stands where a line begins.
type lineState struct {
	counted int  // what the outline has counted so far
	clean   bool // outside of quotes, brackets and block texts
	ended   bool // the block text before is not open for a line that follows
}

// run is a run of known entries, for which the parser gets one entry.
type run struct {
	line    int // of the first
	indent  int // of the dashes
	entries []*known
}

const standIn = "0"

// reuse takes the entries that are known out of a text whose next line begins outside of everything, and returns how
// many lines they have.
func (s *outliner) reuse(n int, lines []string, text string) (taken int) {
	found := run{line: n}
	for taken < len(lines) {
		if s.step != nil {
			s.step()
		}
		count, indent := entryLines(lines[taken:])
		if count == 0 || taken > 0 && indent != found.indent {
			break
		}
		length := count - 1
		for _, line := range lines[taken : taken+count] {
			length += len(line)
		}
		k := s.known[text[:length]]
		if k == nil {
			break
		}
		found.indent = indent
		found.entries = append(found.entries, k)
		s.count += k.counted
		taken += count
		text = text[min(length+1, len(text)):]
	}
	if taken > 0 {
		if s.runs == nil {
			s.runs = map[int]run{}
		}
		s.runs[n] = found
		s.taken += len(found.entries)
	}
	return taken
}

// standsIn returns the run that an entry of a list stands for.
func (o *outline) standsIn(line, column int, plain string) (run, bool) {
	r, ok := o.runs[line]
	return r, ok && plain == standIn && column == r.indent+len("- ")+1
}

// share adds the entries of a run to a list.
func (r *reader) share(list *node, of run) {
	line := of.line
	for _, k := range of.entries {
		n := &node{kind: mappingNode, pos: position{r.file, line, k.column}, size: k.size, depth: k.depth, known: k}
		if !r.count(k.size, n.pos) {
			return
		}
		list.items = append(list.items, n)
		r.holds(list, n)
		r.found++
		line += k.lines
	}
}

// whole returns the node with its members, which are read where somebody asks for them only.
func (n *node) whole() *node {
	if n.known == nil || n.members != nil {
		return n
	}
	r := &reader{
		file: n.pos.file, faults: new(faultList), lines: n.pos.line - 1,
		expand: func(n *node, text string) { n.scalar, n.literal = text, text },
	}
	if list := r.document([]byte(n.known.text)); list != nil && len(list.items) == 1 {
		n.members, n.byName = list.items[0].members, list.items[0].byName
	}
	return n
}

// knowable returns what the next reload can know the routes of a document by.
func (r *reader) knowable(root *node) map[*node]*known {
	routes := root.member(routesKey)
	if routes == nil {
		return nil
	}
	all := make(map[*node]*known, len(routes.value.items))
	for _, n := range routes.value.items {
		if k := r.knowableEntry(n); k != nil {
			all[n] = k
		}
	}
	return all
}

const routesKey = "routes"

// knowableEntry returns what an entry of a list can be known by; nil where its lines could mean something else
// elsewhere.
func (r *reader) knowableEntry(n *node) *known {
	first := n.pos.line - 1
	if n.known != nil || n.kind != mappingNode || !r.text.states[first].clean {
		return nil
	}
	lines, indent := entryLines(r.text.lines[first:])
	if lines == 0 || n.pos.column <= indent+len("- ") {
		return nil
	}
	end := r.text.states[first+lines]
	// A copy: as a part of the text, one line would keep the whole in memory for as long as its route is shared.
	text := strings.Clone(strings.Join(r.text.lines[first:first+lines], "\n"))
	if !end.clean || !end.ended || !meansTheSame(text) {
		return nil
	}
	return &known{
		text: text, lines: lines, column: n.pos.column, size: n.size, depth: n.depth,
		counted: end.counted - r.text.states[first].counted,
	}
}

// sharable returns why the configuration before cannot be built upon: what was taken out of the documents does not
// stand where it may, or something has changed that checks of shared routes look at.
func (l *loader) sharable() error {
	if l.failed || l.root == nil || l.unsure {
		return errNotSharable
	}
	now, before := restOf(l.root), &l.before.origin.rest
	if now.other != before.other {
		return errNotSharable
	}
	changed := changedError(before.changed(&now))
	shared := 0
	if m := l.root.member(routesKey); m != nil {
		for _, n := range m.value.items {
			if n.known == nil {
				continue
			}
			if shared++; changed.affects(n.known) {
				return changed
			}
		}
	}
	if shared != l.found {
		return errNotSharable
	}
	return nil
}

// changedError has the names behind which something else stands than before.
type changedError map[use]bool

func (changedError) Error() string { return errNotSharable.Error() }

// affects reports whether the checks of a route look at something that has changed.
func (c changedError) affects(k *known) bool {
	for _, u := range k.uses {
		if c[u] || u.key == "transactions" && len(c) > 0 {
			return true
		}
	}
	return false
}

// knownList returns what the routes of the tree are known by, or could be.
func (l *loader) knownList() knownList {
	m := l.root.member(routesKey)
	if l.fresh == nil || m == nil {
		return nil
	}
	list := make(knownList, len(m.value.items))
	for i, n := range m.value.items {
		if list[i] = n.known; n.known == nil {
			list[i] = l.fresh[n]
		}
	}
	return list
}

// remember has the routes of a sound configuration shared by the next one: those of which nothing is warned, and which
// name no file, since a file is read again each time.
func (l *loader) remember(c *Config, known knownList) {
	c.origin.rest, c.origin.known = restOf(l.root), known
	own := make(map[position]bool, len(l.warnings.list))
	for _, w := range l.warnings.list {
		own[position{file: w.File, line: w.Line}] = true
	}
	for _, p := range l.origin.places {
		own[position{file: p.file, line: p.line}] = true
	}
	for i, k := range known {
		if k == nil || k.route != nil {
			continue
		}
		n := l.root.member(routesKey).value.items[i]
		k.route = c.Routes[i]
		for line := range k.lines {
			if own[position{file: n.pos.file, line: n.pos.line + line}] {
				known[i] = nil
			}
		}
	}
}

// useShared notes the names that shared routes use, whose checks are not made again.
func (k *checker) useShared(known knownList) {
	for i, route := range known {
		if known.shared(i) {
			for _, u := range route.uses {
				k.use(u.key, u.name)
			}
		}
	}
}

// rest is what is written beside the routes, with what variables stand for, as digests.
type rest struct {
	named map[use][sha256.Size]byte // what a route can name
	other [sha256.Size]byte
}

// changed returns the names behind which something else stands in another one.
func (r *rest) changed(other *rest) map[use]bool {
	changed := map[use]bool{}
	for u, digest := range r.named {
		if other.named[u] != digest {
			changed[u] = true
		}
	}
	for u := range other.named {
		if _, there := r.named[u]; !there {
			changed[u] = true
		}
	}
	return changed
}

func restOf(root *node) rest {
	r := rest{named: map[use][sha256.Size]byte{}}
	h := sha256.New()
	w := digester{h}
	for _, m := range root.members {
		switch m.name {
		case routesKey:
		case "services", "limits", "transactions":
			w.text(m.name)
			w.number(int(m.value.kind))
			for _, named := range m.value.members {
				h := sha256.New()
				digester{h}.node(named.value)
				r.named[use{m.name, named.name}] = [sha256.Size]byte(h.Sum(nil))
			}
		default:
			w.text(m.name)
			w.node(m.value)
		}
	}
	r.other = [sha256.Size]byte(h.Sum(nil))
	return r
}

type digester struct{ io.Writer }

func (w digester) number(n int) { _, _ = w.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }

func (w digester) text(s string) {
	w.number(len(s))
	_, _ = io.WriteString(w, s)
}

func (w digester) node(n *node) {
	w.number(int(n.kind))
	w.text(fmt.Sprintf("%T %v", n.scalar, n.scalar))
	w.text(n.literal)
	w.text(n.source)
	w.number(len(n.items))
	for _, item := range n.items {
		w.node(item)
	}
	w.number(len(n.members))
	for _, m := range n.members {
		w.text(m.name)
		w.node(m.value)
	}
}

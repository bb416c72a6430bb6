package config

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// mark is a place in a file, counted from 1, the column in characters.
type mark struct{ line, column int }

// outline is what a quick look at a text tells before it is parsed, and what messages about its syntax need.
type outline struct {
	lines  []string
	parsed string // the text for the parser
	tab    mark   // the first tab in the indentation of a line outside of [ ] and { }; zero without one
	refuse bool   // such a tab begins a line: some of these the parser would let pass
	beyond mark   // where more values begin than any document may have; zero without
	open   mark   // the innermost [ or { that is open at the end; zero without one
	// pairs are the places in the parsed text behind each \UXXXXXXXX that is two escapes \uXXXX in the file.
	pairs []mark

	comments     []comment // where they are asked for
	keepComments bool
	unclosed     bool // a quote is open at the end

	known  map[string]*known // entries that need not be parsed, by their text
	runs   map[int]run       // of these, by the line of the first
	taken  int               // how many there are
	states []lineState       // where each line begins, and at the end

	step func()

	runes     []rune // of the line that was asked for last
	runesLine int
}

const pairShorter = len(`\ud83d\ude00`) - len(`\U0001F600`)

// written returns the place in the file of one in the parsed text.
func (o *outline) written(m mark) mark {
	m = mark{max(m.line, 1), max(m.column, 1)}
	compare := func(a, b mark) int { return cmp.Or(a.line-b.line, a.column-b.column) }
	first, _ := slices.BinarySearchFunc(o.pairs, mark{m.line, 0}, compare)
	end, _ := slices.BinarySearchFunc(o.pairs, mark{m.line, m.column + 1}, compare)
	return mark{m.line, m.column + (end-first)*pairShorter}
}

// line returns a line's characters.
func (o *outline) line(n int) []rune {
	if n < 1 || n > len(o.lines) {
		return nil
	}
	if o.runesLine != n { // a line can be the whole file, and have an anchor everywhere
		o.runes, o.runesLine = []rune(o.lines[n-1]), n
	}
	return o.runes
}

// char returns the character at a place; 0 beyond the end of its line.
func (o *outline) char(m mark) rune {
	line := o.line(m.line)
	if m.column < 1 || m.column > len(line) {
		return 0
	}
	return line[m.column-1]
}

var (
	// versionForm is a directive that says nothing new: everything is read as YAML 1.2, and the parser knows 1.1 only.
	versionForm = regexp.MustCompile(`^%(YAML[ \t]+1\.[0-9]+[ \t]*(#.*)?)$`)
	blockForm   = regexp.MustCompile(`^[|>][0-9+-]*[ \t]*(#.*)?$`)
	pairForm    = regexp.MustCompile(`^\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})`)
)

// outlineOf looks at a text; step lets others work meanwhile, and may be nil.
func outlineOf(text string, known map[string]*known, step func()) *outline {
	o := &outline{known: known, step: step}
	o.scan(text)
	return o
}

// scan goes through the text.
func (o *outline) scan(text string) {
	o.lines = strings.Split(text, "\n")
	o.states = make([]lineState, len(o.lines)+1)
	s := outliner{outline: o, block: -1}
	var parsed strings.Builder
	parsed.Grow(len(text))
	head := true // nothing but comments and directives so far
	for i := 0; i < len(o.lines); i++ {
		if o.step != nil {
			o.step()
		}
		line := o.lines[i]
		o.states[i] = s.state(line)
		if o.known != nil && o.states[i].clean {
			if taken := s.reuse(i+1, o.lines[i:], text); taken > 0 {
				if i > 0 {
					parsed.WriteByte('\n')
				}
				parsed.WriteString(strings.Repeat(" ", s.runs[i+1].indent) + "- " + standIn)
				parsed.WriteString(strings.Repeat("\n", taken-1))
				for _, line := range o.lines[i : i+taken] {
					text = text[min(len(line)+1, len(text)):]
				}
				i += taken - 1
				head, s.block = false, -1
				continue
			}
		}
		text = text[min(len(line)+1, len(text)):]
		end := line[len(strings.TrimSuffix(line, "\r")):]
		line = line[:len(line)-len(end)]
		o.lines[i] = line
		if head && versionForm.MatchString(line) {
			line = versionForm.ReplaceAllString(line, "#$1")
		}
		head = head && (line == "" || line[0] == '#' || line[0] == '%')
		if i > 0 {
			parsed.WriteByte('\n')
		}
		parsed.WriteString(s.scan(i+1, line))
		parsed.WriteString(end)
		if s.count > 2*valuesMax && o.beyond == (mark{}) {
			o.beyond = mark{i + 1, 1}
		}
	}
	o.states[len(o.lines)] = s.state("")
	o.parsed = parsed.String()
	if len(s.flow) > 0 {
		o.open = s.flow[len(s.flow)-1]
	}
	o.unclosed = s.quote != 0
}

// outliner goes through a text line by line.
type outliner struct {
	*outline
	quote rune   // the one that is open
	flow  []mark // the brackets that are open
	count int    // of what begins a value: at most two for each
	block int    // the indentation that the lines of a block scalar are deeper than; -1 outside of one
}

// state is how it stands before a line.
func (s *outliner) state(line string) lineState {
	indentation := len(line) - len(strings.TrimLeft(line, " "))
	ended := s.block < 0
	return lineState{
		counted: s.count, ended: ended,
		clean: s.quote == 0 && len(s.flow) == 0 && (ended || indentation <= s.block),
	}
}

// scan reads a line and returns it as the parser gets it.
func (s *outliner) scan(n int, line string) string {
	content := strings.TrimLeft(line, " ")
	indentation := len(line) - len(content)
	if s.block >= 0 && (strings.TrimLeft(content, " \t") == "" || indentation > s.block) {
		return line
	}
	s.block = -1
	if len(s.flow) == 0 && strings.HasPrefix(content, "\t") {
		if s.tab == (mark{}) {
			s.tab = mark{n, indentation + 1}
		}
		s.refuse = s.refuse || indentation == 0
	}
	rest := []rune(line)
	from, shorter := 0, 0 // of what was not copied yet; what was copied is so much shorter
	var parsed strings.Builder
	start := true       // a value can begin here
	deep := indentation // what a block text that begins on this line is deeper than
	entry := -1         // the column of what stands behind the last dash
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		space := i+1 >= len(rest) || rest[i+1] == ' ' || rest[i+1] == '\t'
		switch {
		case s.quote == '"' && c == '\\':
			if pair := pairForm.FindStringSubmatch(string(rest[i:min(i+12, len(rest))])); pair != nil {
				parsed.WriteString(string(rest[from:i]) + escapeOf(pair[1], pair[2]))
				i += len(pair[0]) - 1
				from = i + 1
				shorter += pairShorter
				s.pairs = append(s.pairs, mark{n, i + 2 - shorter})
			} else {
				i++
			}
		case s.quote == '\'' && c == '\'' && i+1 < len(rest) && rest[i+1] == '\'':
			i++
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
			}
		case c == ' ' || c == '\t':
		case c == '#' && (i == 0 || rest[i-1] == ' ' || rest[i-1] == '\t'):
			s.comment(n, i, rest)
			i = len(rest)
		case start && (c == '"' || c == '\''):
			s.quote, start = c, false
		case (c == '[' || c == '{') && (start || len(s.flow) > 0):
			s.flow, start = append(s.flow, mark{n, i + 1}), true
			s.count++
		case (c == ']' || c == '}') && len(s.flow) > 0:
			s.flow, start = s.flow[:len(s.flow)-1], false
		case c == ',' && len(s.flow) > 0:
			start = true
			s.count++
		case c == ':' && (space || !start && len(s.flow) > 0 && rest[i-1] == '"'):
			start, deep = true, max(deep, entry)
			s.count++
		case start && (c == '-' || c == '?') && space:
			deep, entry = i, i+2
			s.count++
		case start && (c == '|' || c == '>') && len(s.flow) == 0 && blockForm.MatchString(string(rest[i:])):
			s.block = deep
			if behind := slices.Index(rest[i:], '#'); behind >= 0 {
				s.comment(n, i+behind, rest)
			}
			i = len(rest)
		case start && (c == '&' || c == '!'):
			for i+1 < len(rest) && !strings.ContainsRune(" \t,]}", rest[i+1]) {
				i++
			}
		default:
			start = false
		}
	}
	return parsed.String() + string(rest[from:])
}

// comment notes the one that begins at an index of a line.
func (s *outliner) comment(n, at int, line []rune) {
	if !s.keepComments {
		return
	}
	before := strings.TrimLeft(string(line[:at]), " \t")
	s.comments = append(s.comments, comment{
		at: mark{n, at + 1}, depth: len(s.flow), own: before == "", text: strings.TrimRight(string(line[at:]), " \t"),
		indent: at - len([]rune(before)),
	})
}

// escapeOf returns the escape of the one character that a pair of surrogates stands for.
func escapeOf(high, low string) string {
	h, _ := strconv.ParseUint(high, 16, 16) // the form has been checked
	l, _ := strconv.ParseUint(low, 16, 16)
	digits := strconv.FormatUint(uint64(utf16.DecodeRune(rune(h), rune(l))), 16)
	return `\U` + strings.Repeat("0", 8-len(digits)) + digits
}

package jsonscan

const depthMax = 10_000 // levels of nesting, as encoding/json has it

// scanner goes over a text, byte by byte. Its methods begin at s.at and leave it behind what they read; they return 0
// or what is wrong with the text.
type scanner struct {
	text    []byte
	at      int
	members *Members
	places  []place
	objects [(depthMax + 63) / 64]uint64 // by level: it is an object and no list
}

// document reads the text as one document. none says that it is no JSON, whatever it is.
func (s *scanner) document() (f Fault, none bool) {
	first := s.space()
	if !beginsValue(first) {
		return 0, true
	}
	certain := opens(first)
	if f = s.member(0, 0); f != 0 {
		return f, !certain // a form may begin with the letter of a word, a date with a digit
	}
	end := s.at
	next := s.space()
	switch {
	case s.at == len(s.text):
		return 0, false
	case certain, opens(next), s.at > end && beginsValue(next):
		return Several, false
	}
	return 0, true
}

// opens reports whether a byte begins what is hardly anything but JSON: an object, a list, a string.
func opens(c byte) bool { return c == '{' || c == '[' || c == '"' }

// space passes white space over and returns the byte behind it; 0 at the end, which begins nothing.
func (s *scanner) space() byte {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// member reads the value of a node for the first time. It recurses as deep as the paths of the set are long.
func (s *scanner) member(node, depth int) (f Fault) {
	start, c := s.at, s.text[s.at]
	switch {
	case len(s.members.nodes[node].children) == 0 || c != '{' && c != '[':
		f = s.value(depth)
	case depth == depthMax:
		return TooDeep
	case c == '{':
		f = s.object(node, depth+1)
	default:
		f = s.list(node, depth+1)
	}
	p := &s.places[node]
	p.there, p.start, p.end = true, start, s.at
	p.last = Value(s.text[start:s.at])
	return f
}

// object reads an object that has members of the set.
func (s *scanner) object(node, depth int) Fault {
	s.at++
	if s.space() == '}' {
		s.at++
		return 0
	}
	for {
		if s.space() != '"' {
			return Malformed
		}
		start := s.at
		if !s.str() {
			return Malformed
		}
		name := s.text[start+1 : s.at-1]
		if !s.colon() {
			return Malformed
		}
		if f := s.named(s.childNamed(node, name), depth); f != 0 {
			return f
		}
		switch s.space() {
		case ',':
			s.at++
		case '}':
			s.at++
			return 0
		default:
			return Malformed
		}
	}
}

// colon reads what stands between a name and its value.
func (s *scanner) colon() bool {
	if s.space() != ':' {
		return false
	}
	s.at++
	return beginsValue(s.space())
}

// childNamed returns the node of a name within a node's object; -1: it is not in the set.
func (s *scanner) childNamed(node int, name []byte) int {
	children := s.members.nodes[node].children
	for i := range children {
		if e := &children[i]; len(e.name) <= len(name) && spells(name, e.name) { // escapes are longer than characters
			return e.node
		}
	}
	return -1
}

// named reads the value of a child, which is -1 where it is not in the set.
func (s *scanner) named(child, depth int) Fault {
	if child < 0 {
		return s.value(depth)
	}
	p := &s.places[child]
	if !p.there {
		return s.member(child, depth)
	}
	start := s.at
	if f := s.value(depth); f != 0 {
		return f
	}
	again := Value(s.text[start:s.at])
	p.ambiguous = p.ambiguous || !again.equal(p.last)
	p.last = again
	return 0
}

// list reads a list that has members of the set.
func (s *scanner) list(node, depth int) Fault {
	s.at++
	if s.space() == ']' {
		s.at++
		return 0
	}
	for i := 0; ; i++ {
		if !beginsValue(s.space()) {
			return Malformed
		}
		child := -1
		for _, e := range s.members.nodes[node].children {
			if e.index == i {
				child = e.node
			}
		}
		if f := s.named(child, depth); f != 0 {
			return f
		}
		switch s.space() {
		case ',':
			s.at++
		case ']':
			s.at++
			return 0
		default:
			return Malformed
		}
	}
}

// value passes over a value and everything in it. It stands on the value's first byte.
func (s *scanner) value(depth int) Fault {
	for outer := depth; ; {
		switch c := s.text[s.at]; c {
		case '{', '[':
			if depth == depthMax {
				return TooDeep
			}
			s.at++
			s.enter(depth, c == '{')
			depth++
			if s.space() == c+2 { // } and ] are two behind { and [
				break
			}
			if !s.begin(depth - 1) {
				return Malformed
			}
			continue
		default:
			if !s.scalar(c) {
				return Malformed
			}
		}
		for { // behind a value, or before the end of an empty one
			if depth == outer {
				return 0
			}
			c := s.space()
			if c == ',' {
				break
			}
			if c != s.closing(depth-1) {
				return Malformed
			}
			s.at++
			depth--
		}
		s.at++
		if s.space(); !s.begin(depth - 1) {
			return Malformed
		}
	}
}

func (s *scanner) enter(level int, object bool) {
	word, bit := level/64, uint64(1)<<(level%64)
	if s.objects[word] &^= bit; object {
		s.objects[word] |= bit
	}
}

func (s *scanner) isObject(level int) bool { return s.objects[level/64]&(1<<(level%64)) != 0 }

func (s *scanner) closing(level int) byte {
	if s.isObject(level) {
		return '}'
	}
	return ']'
}

// begin stands where a member or an element has to begin, and reads the name of a member.
func (s *scanner) begin(level int) bool {
	if s.at == len(s.text) {
		return false
	}
	if s.isObject(level) {
		return s.text[s.at] == '"' && s.str() && s.colon()
	}
	return beginsValue(s.text[s.at])
}

// scalar passes over a string, a number or a word.
func (s *scanner) scalar(c byte) bool {
	switch c {
	case '"':
		return s.str()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(w string) bool {
	end := s.at + len(w)
	if end > len(s.text) || string(s.text[s.at:end]) != w {
		return false
	}
	s.at = end
	return true
}

// number passes over a number (RFC 8259 §6).
func (s *scanner) number() bool {
	if s.text[s.at] == '-' {
		s.at++
	}
	if s.at < len(s.text) && s.text[s.at] == '0' {
		s.at++
	} else if !s.digits() {
		return false
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.digits() {
			return false
		}
	}
	if s.at < len(s.text) && s.text[s.at]|0x20 == 'e' {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		return s.digits()
	}
	return true
}

// digits passes over digits. False: there is none.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// str passes over a string (RFC 8259 §7). It stands on its first quote.
func (s *scanner) str() bool {
	text, i := s.text, s.at+1
	for i < len(text) {
		switch c := text[i]; {
		case c == '"':
			s.at = i + 1
			return true
		case c < ' ':
			return false
		case c != '\\':
			i++
		default:
			n := escapeLength(text[i:])
			if n == 0 {
				return false
			}
			i += n
		}
	}
	return false
}

// escapeLength returns how many bytes an escape has; 0: it is none. The text begins with its backslash.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) < 6 {
			return 0
		}
		for _, c := range text[2:6] {
			if hexDigit(c) < 0 {
				return 0
			}
		}
		return 6
	}
	return 0
}

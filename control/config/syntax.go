package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const byteOrderMark = "\ufeff"

// decode returns a file's text without a byte order mark; false when it is not text that YAML can hold.
func (r *reader) decode(data []byte) (string, bool) {
	start := position{r.file, 1, 1}
	if wide := wideEncoding(data); wide != "" {
		r.faults.add(start, "the file is %s text: save it as UTF-8", wide)
		return "", false
	}
	text := strings.TrimPrefix(string(data), byteOrderMark)
	line, column := 1, 1
	for i, c := range text {
		at := position{r.file, line, column}
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			r.faults.add(at, "the byte 0x%02x is not UTF-8 text", text[i])
			return "", false
		case c == 0:
			r.faults.add(at, "a NUL byte: this is not a text file, or it was not written to its end")
			return "", false
		case !allowed(c):
			r.faults.add(at, "the character %U is not allowed in YAML; in double quotes it is written as an escape", c)
			return "", false
		case c == '\n':
			line, column = line+1, 0
		}
		column++
	}
	return text, true
}

// allowed reports whether a character may stand in YAML text (YAML 1.2.2 §5.1, c-printable).
func allowed(c rune) bool {
	switch {
	case c == '\t' || c == '\n' || c == '\r' || c == 0x85:
		return true
	case c < 0x20 || c >= 0x7f && c < 0xa0:
		return false
	}
	return c != 0xfeff && c != 0xfffe && c != 0xffff
}

// wideEncoding names the encoding of a file whose characters are wider than a byte; empty for any other.
func wideEncoding(data []byte) string {
	zero := func(i int) bool { return i < len(data) && data[i] == 0 }
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(data, []byte{0, 0, 0xfe, 0xff}):
		return "UTF-32"
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return "UTF-16"
	case len(data) >= 4 && (zero(0) && !zero(1) && zero(2) && !zero(3) || !zero(0) && zero(1) && !zero(2) && zero(3)):
		return "UTF-16"
	}
	return ""
}

// syntax says where and why the text is no YAML, in plain words.
func (r *reader) syntax(err error) {
	e, ok := errors.AsType[*yaml.LoadError](err)
	if !ok {
		r.faults.add(position{r.file, 1, 1}, "syntax: %v", err)
		return
	}
	if e.Mark.Line < 1 {
		e.Mark = e.ContextMark
	}
	fault := syntaxFault{
		text: r.text, message: e.Message,
		at: r.text.written(mark{e.Mark.Line, e.Mark.Column}), from: mark{e.ContextMark.Line, e.ContextMark.Column},
	}
	at, message := fault.explain()
	r.faults.add(position{r.file, at.line, at.column}, "%s", message)
}

// syntaxFault is what the parser says: where it stopped, and where that began which it was reading, if it says so.
type syntaxFault struct {
	text     *outline
	message  string
	at, from mark
}

const tabMessage = "syntax: a tab: YAML is indented with spaces"

// explain returns where to look and what is wrong there.
func (f *syntaxFault) explain() (mark, string) {
	c, before := f.text.char(f.at), f.before()
	switch {
	case strings.Contains(f.message, errTooDeep.Error()):
		if c == ':' { // of a key, which begins the level
			return f.lineStart(f.at.line), errTooDeep.Error()
		}
		return f.at, errTooDeep.Error()
	case f.text.tab != (mark{}) && f.text.tab.line <= f.at.line:
		return f.text.tab, tabMessage
	case strings.Contains(f.message, "did not find expected ',' or"):
		return f.flow()
	case f.text.open != (mark{}) && f.at.line >= len(f.text.lines):
		opening := f.text.char(f.text.open)
		return f.text.open, fmt.Sprintf("syntax: the %c is not closed by a %c", opening, closing[opening])
	case c == '@' || c == '`' || c == '%' && strings.Contains(f.message, "cannot start any token"):
		return f.at, fmt.Sprintf("syntax: a text that begins with %c has to be quoted", c)
	case c == ']' || c == '}':
		return f.at, fmt.Sprintf("syntax: nothing is open that the %c could close; a text with it has to be quoted", c)
	case strings.Contains(f.message, "unexpected end of stream"):
		return f.from, fmt.Sprintf("syntax: the %c is not closed", f.text.char(f.from))
	case strings.Contains(f.message, "did not find expected key"),
		strings.Contains(f.message, "did not find expected '-' indicator"):
		return f.at, f.indentation(c, before)
	case strings.Contains(f.message, "mapping values are not allowed"):
		return f.colon()
	case strings.Contains(f.message, "could not find expected ':'") && f.from.line > 0:
		return f.from, "syntax: a key without a : and a space behind it"
	}
	return f.at, "syntax: " + f.message
}

// closing are the brackets that close others.
var closing = map[rune]rune{'[': ']', '{': '}'}

// flow explains what is wrong within [ ] or { }.
func (f *syntaxFault) flow() (mark, string) {
	opening := '['
	if strings.Contains(f.message, "'}'") {
		opening = '{'
	}
	c, before := f.text.char(f.at), f.text.char(mark{f.at.line, f.at.column - 1})
	inText := before != 0 && !strings.ContainsRune(" \t,:[{", before)
	switch {
	case f.from.line < 1:
		return f.at, "syntax: " + f.message
	case f.at.line == f.from.line && (c == '{' || c == '[') && inText:
		const message = "syntax: a %c inside a text that is not quoted: within { } and [ ], quote a text that has one"
		return f.at, fmt.Sprintf(message, c)
	case f.at.line == f.from.line && c != 0:
		const message = "syntax: the %c has to be closed by a %c before the %c, or a , is missing there, or a quote"
		return f.at, fmt.Sprintf(message, opening, closing[opening], c)
	}
	return f.from, fmt.Sprintf("syntax: the %c is not closed by a %c", opening, closing[opening])
}

// indentation explains a line that belongs to nothing above it, or text behind what is complete.
func (f *syntaxFault) indentation(c, before rune) string {
	switch {
	case before == '}' || before == ']':
		return "syntax: text behind a } or ]: a text that begins with { or [ has to be quoted"
	case before == '"' || before == '\'':
		return `syntax: text behind a closing quote: quote all of it; ` +
			`a quote within is written \" in "…" and '' in '…'`
	case strings.Contains(f.message, "'-'"):
		return "syntax: a key among list entries: look at the indentation"
	case c == '-':
		return "syntax: a list entry among keys: look at the indentation"
	}
	return "syntax: the indentation fits to no line above"
}

// colon explains a : that makes a key where none can be.
func (f *syntaxFault) colon() (mark, string) {
	line := f.text.line(f.at.line)
	text := string(line[:min(f.at.column-1, len(line))])
	if i := strings.LastIndex(text, ": "); i >= 0 {
		value := text[i+2:]
		column := len([]rune(text[:i+2])) + len(value) - len(strings.TrimLeft(value, " ")) + 1
		return mark{f.at.line, column}, "syntax: a text with a : and a space in it has to be quoted"
	}
	return f.lineStart(f.at.line), "syntax: the line is indented too far for a key, or the line above lacks its :"
}

// lineStart returns where the indentation of a line ends.
func (f *syntaxFault) lineStart(line int) mark {
	text := string(f.text.line(line))
	return mark{line, len(text) - len(strings.TrimLeft(text, " ")) + 1}
}

// before returns the last character before the place, spaces left out; 0 at the beginning of a line.
func (f *syntaxFault) before() rune {
	line := f.text.line(f.at.line)
	text := []rune(strings.TrimRight(string(line[:min(f.at.column-1, len(line))]), " \t"))
	if len(text) == 0 {
		return 0
	}
	return text[len(text)-1]
}

package transaction

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// reasonBytesMax is how long a text of a service may be in a reason.
const reasonBytesMax = 200

// printable makes a text of a service fit for a status, a log and a terminal: bounded, valid UTF-8, on one line, and
// without characters that move a cursor or turn the direction of writing.
func printable(text string) string {
	cut := len(text) > reasonBytesMax
	if cut {
		text = text[:reasonBytesMax]
		for len(text) > 0 && !utf8.RuneStart(text[len(text)-1]) { // not within a character
			text = text[:len(text)-1]
		}
		if r, size := utf8.DecodeLastRuneInString(text); r == utf8.RuneError && size == 1 {
			text = text[:len(text)-1]
		}
	}
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)), " ")
	if cut {
		text += "…"
	}
	return text
}

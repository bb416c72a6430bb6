package transaction

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The payload of a branch is the envelope as text. The coordinator keeps it inside of JSON, some stores twice, and
// reads and writes it several times a step: so it has no quotes of its own, no names, and nothing twice. It is a mark,
// and values in a fixed order, each with its length before it, as netstrings have (Bernstein 1997): 3:ann. A list has
// the number of its values before it. A value of the second and of later calls that is the first call's is "=".
//
// What began with an earlier version has JSON, which is read too.
const envelopeMark = "~1"

var errEnvelope = errors.New("transaction: the payload is no envelope")

// callsOf are the calls that an envelope can have, in the order in which they are written.
func (e *envelope) callsOf() [5]struct {
	letter byte
	of     **envelopeCall
} {
	return [5]struct {
		letter byte
		of     **envelopeCall
	}{{'d', &e.Do}, {'u', &e.Undo}, {'q', &e.Query}, {'c', &e.Confirm}, {'x', &e.Cancel}}
}

// marshal returns the payload of an envelope.
func marshal(e *envelope) []byte {
	w := envelopeWriter{b: append(make([]byte, 0, 512), envelopeMark...)}
	for _, s := range [...]string{e.Mode, e.Transaction, e.Route, e.Principal} {
		w.text(s)
	}
	w.number(int(e.RetryMax))
	w.pairs(e.Inject)
	w.ranges(e.FailOn)
	w.number(len(e.Behind))
	for _, name := range e.Behind {
		w.text(name)
	}
	var first *envelopeCall
	for _, c := range e.callsOf() {
		if *c.of == nil {
			continue
		}
		w.b = append(w.b, c.letter)
		w.call(*c.of, first)
		if first == nil {
			first = *c.of
		}
	}
	return w.b
}

type envelopeWriter struct{ b []byte }

// text writes a value. What is no UTF-8 would not come back as it was from inside of JSON.
func (w *envelopeWriter) text(s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	w.b = append(append(strconv.AppendInt(w.b, int64(len(s)), 10), ':'), s...)
}

func (w *envelopeWriter) number(n int) { w.b = append(strconv.AppendInt(w.b, int64(n), 10), ':') }

func (w *envelopeWriter) pairs(list [][2]string) {
	w.number(len(list))
	for _, f := range list {
		w.text(f[0])
		w.text(f[1])
	}
}

func (w *envelopeWriter) ranges(list [][2]int) {
	w.number(len(list))
	for _, r := range list {
		w.number(r[0])
		w.number(r[1])
	}
}

func (w *envelopeWriter) call(c, first *envelopeCall) {
	values, before := c.texts(), new(envelopeCall).texts()
	if first != nil {
		before = first.texts()
	}
	for i, s := range values {
		if first != nil && s == before[i] {
			w.b = append(w.b, '=')
			continue
		}
		w.text(s)
	}
	w.pairs(c.Headers)
	w.ranges(c.NothingOn)
}

// texts are the values of a call that may be the first one's.
func (c *envelopeCall) texts() [5]string {
	return [5]string{c.Service, c.Method, c.Path, c.Query, string(c.Body)}
}

// unmarshal reads the payload of a branch.
func unmarshal(payload []byte) (*envelope, error) {
	e := new(envelope)
	text, ok := strings.CutPrefix(string(payload), envelopeMark)
	if !ok {
		return e, json.Unmarshal(payload, e)
	}
	r := envelopeReader{rest: text}
	for _, s := range [...]*string{&e.Mode, &e.Transaction, &e.Route, &e.Principal} {
		*s = r.text()
	}
	e.RetryMax = int64(r.number())
	e.Inject = r.pairs()
	e.FailOn = r.ranges()
	for range r.count() {
		e.Behind = append(e.Behind, r.text())
	}
	var first *envelopeCall
	for _, c := range e.callsOf() {
		if r.faulty || r.rest == "" || r.rest[0] != c.letter {
			continue
		}
		r.rest = r.rest[1:]
		*c.of = r.call(first)
		if first == nil {
			first = *c.of
		}
	}
	if r.faulty || r.rest != "" {
		return nil, errEnvelope
	}
	return e, nil
}

// envelopeReader reads values; after a fault they are empty.
type envelopeReader struct {
	rest   string
	faulty bool
}

func (r *envelopeReader) number() int {
	digits, rest, ok := strings.Cut(r.rest, ":")
	n, err := strconv.Atoi(digits)
	if r.faulty = r.faulty || !ok || err != nil || n < 0; r.faulty {
		return 0
	}
	r.rest = rest
	return n
}

func (r *envelopeReader) text() string {
	n := r.number()
	if r.faulty = r.faulty || n > len(r.rest); r.faulty {
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// count is how many values follow, each of which takes two bytes at least.
func (r *envelopeReader) count() int {
	n := r.number()
	if r.faulty = r.faulty || n > len(r.rest)/2; r.faulty {
		return 0
	}
	return n
}

func (r *envelopeReader) pairs() (list [][2]string) {
	for range r.count() {
		list = append(list, [2]string{r.text(), r.text()})
	}
	return list
}

func (r *envelopeReader) ranges() (list [][2]int) {
	for range r.count() {
		list = append(list, [2]int{r.number(), r.number()})
	}
	return list
}

func (r *envelopeReader) call(first *envelopeCall) *envelopeCall {
	c := new(envelopeCall)
	var values, before [5]string
	if first != nil {
		before = first.texts()
	}
	for i := range values {
		if rest, same := strings.CutPrefix(r.rest, "="); same && first != nil {
			values[i], r.rest = before[i], rest
			continue
		}
		values[i] = r.text()
	}
	c.Service, c.Method, c.Path, c.Query = values[0], values[1], values[2], values[3]
	if values[4] != "" {
		c.Body = json.RawMessage(values[4])
	}
	c.Headers, c.NothingOn = r.pairs(), r.ranges()
	return c
}

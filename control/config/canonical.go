package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// canonical writes a tree as JSON that is the same for the same contents: keys in order, no space, aliases and merge
// keys written out, variables as they are written, numbers in one form. The sections that a gateway has of its own are
// left out. The error says that it would be longer than a document may be.
func canonical(root *node) ([]byte, error) {
	w := &canonicalWriter{}
	top := &node{kind: root.kind}
	for _, m := range root.members {
		if !slices.Contains(gatewaySections, m.name) {
			top.members = append(top.members, m)
		}
	}
	if err := w.value(top); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

type canonicalWriter struct{ bytes.Buffer }

func (w *canonicalWriter) value(n *node) error {
	if w.Len() > composedMax {
		return fmt.Errorf("the configuration has more than %d bytes with its aliases written out", composedMax)
	}
	switch n.kind {
	case listNode:
		w.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				w.WriteByte(',')
			}
			if err := w.value(item); err != nil {
				return err
			}
		}
		w.WriteByte(']')
		return nil
	case mappingNode:
		return w.mapping(n)
	}
	return w.scalar(n)
}

func (w *canonicalWriter) mapping(n *node) error {
	members := slices.SortedFunc(slices.Values(n.members), func(a, b *member) int {
		return strings.Compare(a.name, b.name)
	})
	w.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			w.WriteByte(',')
		}
		if err := w.text(m.name); err != nil {
			return err
		}
		w.WriteByte(':')
		if err := w.value(m.value); err != nil {
			return err
		}
	}
	w.WriteByte('}')
	return nil
}

func (w *canonicalWriter) scalar(n *node) error {
	if n.secret {
		return w.text(n.source)
	}
	switch v := n.scalar.(type) {
	case string:
		return w.text(v)
	case bool:
		w.WriteString(strconv.FormatBool(v))
	case json.Number:
		w.WriteString(CanonicalNumber(v))
	default:
		w.WriteString("null")
	}
	return nil
}

func (w *canonicalWriter) text(s string) error {
	e := json.NewEncoder(&w.Buffer)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	w.Truncate(w.Len() - 1) // the line break that the encoder adds
	return nil
}

// exactMax is the number from which a float64 does not hold every whole one.
const exactMax = 1 << 53

// CanonicalNumber writes a number in the one form that a canonical document has: a whole number by its digits, any
// other as the shortest text that gives the same float64.
func CanonicalNumber(n json.Number) string {
	if wholeNumber.MatchString(n.String()) {
		return n.String()
	}
	f, err := n.Float64()
	if err != nil {
		return n.String()
	}
	if f == math.Trunc(f) && math.Abs(f) < exactMax {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

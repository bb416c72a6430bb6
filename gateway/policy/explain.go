package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/ref"
)

// Explainer tells what becomes of one request, a line for each thing. It keeps the first error of
// writing.
type Explainer struct {
	*Build
	Exchange *filters.Exchange
	// Parts are what was told, also where nothing is written.
	Parts []Part
	// Refused is how the gateway refuses the request; nil: it does not.
	Refused *filters.Reply
	// Service is the one that was chosen by weight; empty where there is nothing to choose.
	Service string

	w   io.Writer
	err error
}

// Part is what was told under one label.
type Part struct {
	Label string   `json:"label"`
	Lines []string `json:"lines"`
}

// NewExplainer returns an explainer for a request. b is never committed. Without a writer nothing is
// written.
func NewExplainer(w io.Writer, b *Build, x *filters.Exchange) *Explainer {
	return &Explainer{Build: b, Exchange: x, w: w}
}

// Chain explains the policies of a scope in order. False: the request ends at one of them.
func (e *Explainer) Chain(s Scope) bool {
	for _, p := range e.set.list {
		if of := e.chosen(p, s); p.Applies(of) && !p.Explain(e, of) {
			return false
		}
	}
	return true
}

// chosen returns the scope in which a policy is explained: that of the service that was chosen, for what is its own.
func (e *Explainer) chosen(p Policy, s Scope) Scope {
	if ownOfService(p) {
		for _, end := range s.Ends {
			if end.Service == e.Service {
				return end
			}
		}
	}
	return s
}

// Line writes a label and a text. An empty label continues the line above.
func (e *Explainer) Line(label, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if n := len(e.Parts); label == "" && n > 0 {
		e.Parts[n-1].Lines = append(e.Parts[n-1].Lines, text)
	} else {
		e.Parts = append(e.Parts, Part{label, []string{text}})
	}
	if e.err == nil && e.w != nil {
		_, e.err = fmt.Fprintf(e.w, "%-14s %s\n", label, text)
	}
}

// Refusal writes how the gateway refuses the request.
func (e *Explainer) Refusal(r *filters.Reply) {
	e.Refused = r
	e.Line("response", "%d %s", r.Status, r.Reason)
	var problem struct{ Detail string }
	if json.Unmarshal(r.Body, &problem) == nil && problem.Detail != "" {
		e.Line("", "%s", problem.Detail)
	}
}

// valueBytesMax is how much of a value of a request is shown.
const valueBytesMax = 80

// Values writes references with what they are in the request: route = "buy". Of a value that is long
// it says how long. False: the gateway refuses the request, since a reference has no one value.
func (e *Explainer) Values(label, text string, references []ref.Ref) bool {
	words := make([]string, len(references))
	for i, r := range references {
		v, found, err := r.Text(e.Exchange)
		switch {
		case err != nil:
			e.Refusal(filters.RefuseUnreadable(err))
			return false
		case !found:
			words[i] = r.String() + " is not there"
		case len(v) > valueBytesMax:
			words[i] = fmt.Sprintf("%s of %d bytes", r, len(v))
		default:
			words[i] = fmt.Sprintf("%s = %q", r, v)
		}
	}
	e.Line(label, "%s%s", text, strings.Join(words, ", "))
	return true
}

// Err returns the first error of writing.
func (e *Explainer) Err() error { return e.err }

// List writes values as they stand in the configuration: [2xx 4xx].
func List[T fmt.Stringer](items []T) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = item.String()
	}
	return "[" + strings.Join(words, " ") + "]"
}

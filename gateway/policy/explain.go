package policy

import (
	"fmt"
	"io"
	"strings"

	"github.com/sluice-gateway/sluice/filters"
)

// Explainer writes what becomes of one request, a line for each thing. It keeps the first error of
// writing.
type Explainer struct {
	*Build
	Exchange *filters.Exchange

	w   io.Writer
	err error
}

// NewExplainer returns an explainer for a request. b is never committed.
func NewExplainer(w io.Writer, b *Build, x *filters.Exchange) *Explainer {
	return &Explainer{Build: b, Exchange: x, w: w}
}

// Chain explains the policies of a scope in order. False: the request ends at one of them.
func (e *Explainer) Chain(s Scope) bool {
	for _, p := range e.set.list {
		if p.Applies(s) && !p.Explain(e, s) {
			return false
		}
	}
	return true
}

// Line writes a label and a text. An empty label continues the line above.
func (e *Explainer) Line(label, format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, "%-14s %s\n", label, fmt.Sprintf(format, args...))
	}
}

// Refusal writes how the gateway refuses the request.
func (e *Explainer) Refusal(r *filters.Reply) { e.Line("response", "%d %s", r.Status, r.Reason) }

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

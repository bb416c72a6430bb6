package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one mistake of a configuration and where it stands. Line and Column count from 1, the column in characters.
type Fault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// String returns file:line:column: message.
func (f Fault) String() string {
	if f.File == "" { // it is about no place, or of a configuration that was made in Go
		return f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// FaultsError is the error of [Load] and [Parse] for a configuration with mistakes: all of them, by file and position.
type FaultsError struct {
	Faults []Fault

	partial *Config
}

// Partial returns what could be read of the configuration, to look for further mistakes in what it
// names; nil when that is nothing. Any pointer in it may be nil.
func (e *FaultsError) Partial() *Config { return e.partial }

// Error returns the faults, one a line.
func (e *FaultsError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// secretMin is the length from which an expanded text is looked for in messages; anything shorter hides nothing.
const secretMin = 3

// faultList collects faults and the texts that must not be shown in them.
type faultList struct {
	list    []Fault
	more    int // that are beyond faultsMax
	secrets []string
	hidden  map[string]bool // the secrets
	excused map[position]bool
}

// full reports whether no further fault is told, and counts one then.
func (l *faultList) full() bool {
	if len(l.list) < faultsMax {
		return false
	}
	l.more++
	return true
}

// hide has a text not shown in any fault.
func (l *faultList) hide(secret string) {
	if l.hidden[secret] {
		return
	}
	if l.hidden == nil {
		l.hidden = map[string]bool{}
	}
	l.hidden[secret] = true
	l.secrets = append(l.secrets, secret)
}

// excuse has no fault told of a value that is expanded on another machine: there it may be right.
func (l *faultList) excuse(p position) {
	if l.excused == nil {
		l.excused = map[position]bool{}
	}
	l.excused[p] = true
}

func (l *faultList) add(p position, format string, args ...any) {
	if l.excused[p] || l.full() {
		return
	}
	l.list = append(l.list, Fault{p.file, p.line, p.column, fmt.Sprintf(format, args...)})
}

// err returns the faults in order, each once, with secrets hidden; nil without one.
func (l *faultList) err() error {
	if len(l.list) == 0 {
		return nil
	}
	return &FaultsError{Faults: l.sorted(l.secrets)}
}

// sorted returns what was added in order, each once, with the secrets hidden.
func (l *faultList) sorted(secrets []string) []Fault {
	// The longest first: one may hold another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for i := range l.list {
		for _, s := range secrets {
			if len(s) >= secretMin {
				quoted := fmt.Sprintf("%q", s)
				l.list[i].Message = strings.ReplaceAll(l.list[i].Message, quoted[1:len(quoted)-1], hidden)
				l.list[i].Message = strings.ReplaceAll(l.list[i].Message, s, hidden)
			}
		}
	}
	slices.SortStableFunc(l.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, cmp.Compare(a.Message, b.Message))
	})
	list := slices.Compact(l.list)
	if l.more > 0 {
		list = append(list, Fault{Message: fmt.Sprintf("%d more are not shown", l.more)})
	}
	return list
}

// Suggestion returns ` (did you mean "x"?)` for the known word that is near to one, or nothing. Commands use it too.
func Suggestion(word string, known []string) string { return suggestion(word, known) }

// suggestion returns ` (did you mean "x"?)` for the known word that is near, or nothing.
func suggestion(word string, known []string) string {
	if len(word) < 3 { // anything is near to that
		return ""
	}
	best, least := "", 1+max(1, len(word)/4)
	for _, k := range known[:min(len(known), knownMax)] {
		d := editDistance(strings.ToLower(word), strings.ToLower(k))
		if d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's, with a swap of two neighbours counted as one step (optimal string alignment).
func editDistance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return 100
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

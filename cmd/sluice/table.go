package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/gateway/admin/adminclient"
)

// table writes rows in columns. Rows come page by page and are written at once, so that a listing of any length takes
// the memory of a page; a column grows wider where a later page needs it.
type table struct {
	w       io.Writer
	columns []string
	widths  []int
}

func newTable(w io.Writer, columns ...string) *table { return &table{w: w, columns: columns} }

// write writes a page of rows, behind the heading where it is the first. What is in a cell is made visible.
func (t *table) write(rows [][]string) error {
	for _, row := range rows {
		for i := range row {
			if row[i] = visible(row[i]); row[i] == "" {
				row[i] = "-"
			}
		}
	}
	if t.widths == nil {
		t.widths = make([]int, len(t.columns))
		rows = append([][]string{t.columns}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b bytes.Buffer
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := t.w.Write(b.Bytes())
	return err
}

// visible returns a text with everything escaped that a terminal does not show as a character: what clients chose as
// a key or a name must not move its cursor, or make it look like another one.
func visible(s string) string {
	hidden := func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) || r == utf8.RuneError }
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// visibleJSON does the same to a JSON document. What it escapes can only be in strings, where an escape means the
// same character.
func visibleJSON(document []byte) []byte {
	out := make([]byte, 0, len(document))
	for _, r := range string(document) {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// listing is a list of a gateway's as a table or as JSON.
type listing struct {
	member  string // of the JSON document
	columns []string
	// row returns the cells of a row that the gateway sent.
	row func(json.RawMessage) ([]string, error)
}

// write writes all pages, up to limit rows of them; 0: all. n is how many rows there were. Without any, nothing is
// written.
func (l *listing) write(cmd *cobra.Command, output string, pages adminclient.Pages, limit int) (n int, err error) {
	t, w := newTable(cmd.OutOrStdout(), l.columns...), cmd.OutOrStdout()
	for rows, err := range pages {
		if err != nil {
			return n, adminError(err)
		}
		more := limit > 0 && n+len(rows) > limit
		if more {
			rows = rows[:limit-n]
		}
		if output == "json" {
			err = l.writeJSON(w, rows, n == 0)
		} else {
			err = l.writeRows(t, rows)
		}
		if err != nil {
			return n, err
		}
		if n += len(rows); more {
			fmt.Fprintf(cmd.ErrOrStderr(), "sluice: there are more than these %d\n", limit)
			break
		}
	}
	if output == "json" && n > 0 {
		_, err = fmt.Fprintln(w, "\n  ]\n}")
	}
	return n, err
}

func (l *listing) writeJSON(w io.Writer, rows []json.RawMessage, first bool) error {
	var b bytes.Buffer
	if first {
		fmt.Fprintf(&b, "{\n  %q: [", l.member)
	}
	for i, row := range rows {
		if i > 0 || !first {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		if err := json.Indent(&b, row, "    ", "  "); err != nil {
			return err
		}
	}
	_, err := w.Write(visibleJSON(b.Bytes()))
	return err
}

func (l *listing) writeRows(t *table, rows []json.RawMessage) error {
	cells := make([][]string, len(rows))
	for i, row := range rows {
		var err error
		if cells[i], err = l.row(row); err != nil {
			return fmt.Errorf("the response of the gateway: %w", err)
		}
	}
	return t.write(cells)
}

// addOutputFlag adds -o to a command and its subcommands.
func addOutputFlag(cmd *cobra.Command, output *string) {
	cmd.PersistentFlags().StringVarP(output, "output", "o", "text", "text or json")
	completeFlag(cmd, "output", words("text", "json"))
}

// printResult prints what an operation has done: as JSON, or its members in a line.
func printResult(cmd *cobra.Command, output string, body []byte, err error) error {
	if err != nil || output == "json" {
		return printResponse(cmd, body, err)
	}
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&members); err != nil {
		return fmt.Errorf("the response is not JSON: %w", err)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch v := members[name].(type) {
		case map[string]any, []any:
		default:
			parts = append(parts, fmt.Sprintf("%s: %v", name, v))
		}
	}
	if len(parts) == 0 {
		parts = []string{"done"}
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), visible(strings.Join(parts, ", ")))
	return err
}

// addLimitFlag adds --limit to a listing.
func addLimitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 0, "print so many at most; without it all")
}

// checkListing checks the flags of a listing.
func checkListing(output string, limit int) error {
	if limit < 0 {
		return fmt.Errorf("%w: --limit is %d, want a number from 1 on", errUsage, limit)
	}
	return checkOutput(output)
}

// asked returns how many rows a listing asks for: one more than it prints, to know whether there are more.
func asked(limit int) int {
	if limit == 0 {
		return 0
	}
	return limit + 1
}

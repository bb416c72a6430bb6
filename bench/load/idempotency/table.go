package idempotency

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// WriteTable writes the report as plain text.
func (r *Report) WriteTable(w io.Writer) error {
	var text strings.Builder
	for _, line := range r.head() {
		text.WriteString(line + "\n")
	}
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range r.Stores {
		rows := r.rows(s)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(tw, "\n%s\t%s\t\n", s.title(), strings.Join(columns, "\t"))
		for _, row := range rows {
			fmt.Fprintf(tw, "%s\t\n", strings.Join(row, "\t"))
		}
		tw.Flush()
	}
	for _, line := range append([]string{""}, append(r.sentences(), r.remarks()...)...) {
		text.WriteString(line + "\n")
	}
	if len(r.Marks) > 0 {
		tw = tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		fmt.Fprint(tw, "\nmark\t\tfound\t\t\n")
		for _, m := range r.Marks {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t\n", m.What, m.Bound(), m.Found(), m.Verdict())
		}
		tw.Flush()
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// columns are those of a store's table, after its loads.
var columns = []string{"CPU µs", "× no key", "added µs", "/s of CPU", "requests/s", "allocations", "errors"}

func (r *Report) rows(s StoreResult) [][]string {
	var rows [][]string
	for _, load := range loads {
		if f := r.figure(s.Name, load); f != nil {
			rows = append(rows, []string{load.Name, fmt.Sprintf("%.2f", f.CPUMicros), measure.Shown(f.ToPlain, 2),
				measure.Shown(f.Added, 2),
				measure.Shown(perSecondOfCPU(f), 0), fmt.Sprintf("%.0f", f.PerSecond), measure.Shown(f.Mallocs, 2),
				fmt.Sprint(f.Errors)})
		}
	}
	return rows
}

func (s *StoreResult) title() string { return fmt.Sprintf("%s, %d connections", s.Name, s.Connections) }

// head says what ran where.
func (r *Report) head() []string {
	lines := []string{fmt.Sprintf("%d rounds of %v, upstream %s, %s, records on %s", r.Rounds, r.Duration, r.Upstream,
		r.Where(), r.FileSystem)}
	if r.FileSystem == "tmpfs" {
		lines = append(lines, "records are in memory: an fsync costs nothing there, so give a folder on a disk (--dir)")
	}
	if busy := r.Busy(); busy != "" {
		lines = append(lines, "busy machine: "+busy)
	}
	return lines
}

// sentences are the findings that no table has.
func (r *Report) sentences() []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Fsyncs != nil {
		add("bare loop of 4 KiB and fdatasync: %.0f/s, %.0f µs each; keyed POSTs on the embedded store for each of "+
			"its fsyncs: %s", *r.Fsyncs, 1e6 / *r.Fsyncs, measure.Shown(r.PerFsync, 1))
	}
	for _, s := range r.Stores {
		forwarded, replay := r.figure(s.Name, loadKeyed), r.figure(s.Name, loadReplay)
		if forwarded != nil && replay != nil {
			add("%s: a replay takes %s × the CPU of a keyed POST that is forwarded, and %.2f × as many a second go "+
				"through", s.Name, measure.Shown(measure.Ratio(replay, forwarded), 2),
				replay.PerSecond/forwarded.PerSecond)
		}
		keyed, plain := r.figure(s.Name, loadKeyedPaced), r.figure(s.Name, loadPlainPaced)
		if added := measure.Differences(keyed, plain); len(added) > 0 {
			add("%s: at %d/s each, a POST takes %.2f µs of CPU without a key and %.2f µs with a fresh one: %+.2f µs "+
				"(%+.2f to %+.2f)", s.Name, paceRate, plain.CPUMicros, keyed.CPUMicros, measure.Median(added),
				slices.Min(added), slices.Max(added))
		}
		if l := s.Latency; l != nil && l.Failed == "" {
			add("%s: keyed POST at %d/s: p50 %.0f µs, p99 %.0f µs, p99.9 %.0f µs", s.Name, r.Rate, l.P50, l.P99, l.P999)
		}
	}
	if l := r.Live; l != nil && l.Failed == "" {
		add("embedded store, %d live records (made at %.0f/s): Pss %s (before: %s), Rss %s (%s), heap in use %s "+
			"(%s), on disk %s", l.Records, l.PerSecond,
			megabytes(l.After.Proportional), megabytes(l.Before.Proportional), megabytes(l.After.Resident),
			megabytes(l.Before.Resident),
			megabytes(l.After.Heap), megabytes(l.Before.Heap), megabytes(l.DiskBytes))
	}
	return lines
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// remarks returns one line for everything that went wrong.
func (r *Report) remarks() []string {
	var lines []string
	for _, s := range r.Stores {
		lines = append(lines, measure.Remarks([]measure.Result{s.Result}, loads)...)
	}
	if r.Live != nil && r.Live.Failed != "" {
		lines = append(lines, "live records: given up: "+r.Live.Failed)
	}
	return lines
}

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	type table struct {
		Title string
		Rows  [][]string
	}
	type row struct {
		measure.MarkRow
		Bound string
	}
	values := struct {
		*Report
		Head, Columns, Sentences, Remarks []string
		Marks                             []row
		Tables                            []table
	}{Report: r, Head: r.head(), Columns: columns, Sentences: r.sentences(), Remarks: r.remarks()}
	for _, m := range measure.MarkRows(r.Marks) {
		values.Marks = append(values.Marks, row{m, m.Bound()})
	}
	for _, s := range r.Stores {
		if rows := r.rows(s); len(rows) > 0 {
			values.Tables = append(values.Tables, table{s.title(), rows})
		}
	}
	return pages.ExecuteTemplate(w, "idempotency.html", values)
}

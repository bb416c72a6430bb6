package overload

import (
	"embed"
	"fmt"
	"html/template"
	"io"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/load/plot"
	limiter "github.com/sluice-gateway/sluice/filters/overload"
)

//go:embed templates
var templateFiles embed.FS

var pages = measure.Pages(templateFiles)

// section is a scenario as the page shows it.
type section struct {
	Described
	Charts []template.HTML
	Rows   [][]string
	Missed [][]string
}

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	values := struct {
		*Report
		Rows     []measure.MarkRow
		Columns  []string
		Sections []section
	}{Report: r, Rows: measure.MarkRows(r.Marks), Columns: columns}
	for _, s := range r.Scenarios {
		section := section{Described: s}
		var all []*Finding
		for _, f := range r.Findings {
			if f.Scenario != s.Key {
				continue
			}
			all = append(all, f)
			section.Rows = append(section.Rows, f.rows()...)
			for _, m := range f.Missed() {
				section.Missed = append(section.Missed,
					[]string{f.Contender, m.What, m.Bound(), measure.Shown(m.Got, 3) + m.Unit})
			}
		}
		section.Charts = charts(all)
		values.Sections = append(values.Sections, section)
	}
	return pages.ExecuteTemplate(w, "overload.html", values)
}

// charts draws all contenders' goodput and latency, and what the gateway's own limiter did.
func charts(all []*Finding) []template.HTML {
	if len(all) == 0 {
		return nil
	}
	first := all[0]
	spans := first.spans()
	end := first.scenario.end.Seconds()
	x := places(len(first.Series.Possible), 1, 0.5)
	goodput := plot.Lines{Title: "goodput a second", XUnit: " s", XMax: end, Spans: spans}
	latency := plot.Lines{Title: "p99 of admitted", XUnit: " s", YUnit: " ms", XMax: end, Spans: spans, Log: true,
		YMin: 10, YMax: 1000}
	var drawn []template.HTML
	for _, f := range all {
		goodput.Series = append(goodput.Series, plot.Series{Name: f.Contender, X: x, Y: f.Series.Goodput})
		latency.Series = append(latency.Series, plot.Series{Name: f.Contender, X: x, Y: f.Series.P99})
	}
	goodput.Series = append(goodput.Series, plot.Series{Name: "possible", Colour: "#9aa7b8", Dashed: true, X: x,
		Y: first.Series.Possible})
	drawn = append(drawn, goodput.SVG(), latency.SVG())
	for _, f := range all {
		if f.Contender == Ours {
			drawn = append(drawn, f.inside(spans, end), f.shed(spans, end))
		}
	}
	return drawn
}

// inside draws the limit and what is under way.
func (f *Finding) inside(spans []plot.Span, end float64) template.HTML {
	x := places(len(f.Series.Limit), sampleEvery.Seconds(), 0)
	chart := plot.Lines{Title: f.Contender + ": calls", XUnit: " s", XMax: end, Spans: spans}
	for _, s := range []plot.Series{
		{Name: "limit", Y: f.Series.Limit}, {Name: "in flight", Y: f.Series.InFlight},
		{Name: "queued at the gateway", Y: f.Series.Queued},
		{Name: "in the services", Y: f.Series.Inside, Dashed: true},
	} {
		s.X = x
		chart.Series = append(chart.Series, plot.Thin(s, pointsMost))
	}
	return chart.SVG()
}

// pointsMost is how many points of a line the page has room for.
const pointsMost = 300

// shed draws how many attempts were shed, by class.
func (f *Finding) shed(spans []plot.Span, end float64) template.HTML {
	chart := plot.Lines{Title: f.Contender + ": shed a second", XUnit: " s", XMax: end, Spans: spans, Stack: true}
	for class, shed := range f.Series.Shed {
		chart.Series = append(chart.Series, plot.Series{Name: limiter.Class(class).String(), //nolint:gosec // four
			X: places(len(shed), 1, 0.5), Y: shed})
	}
	return chart.SVG()
}

// spans returns the phases.
func (f *Finding) spans() []plot.Span {
	var spans []plot.Span
	for _, p := range f.Phases {
		spans = append(spans, plot.Span{From: p.From, To: p.To, Name: p.Name})
	}
	return spans
}

// places returns where n values stand that are so far apart; what is of a whole second stands in its
// middle.
func places(n int, apart, offset float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = (float64(i) + offset) * apart
	}
	return x
}

// columns are those of a phase, in the table and on the page.
var columns = []string{"", "phase", "offered/s", "goodput/s", "of possible", "worst s", "critical", "normal", "low",
	"greedy", "others", "p50 ms", "p99 ms", "shed", "shed p99", "back s", "calls a request", "marks"}

// rows returns the figures of every phase.
func (f *Finding) rows() [][]string {
	var rows [][]string
	for i, p := range f.Phases {
		name, marks, calls := "", "", ""
		if i == 0 {
			name, calls, marks = f.Contender, fmt.Sprintf("%.3f", f.AttemptsARequest), "met"
			if n := len(f.Missed()); n > 0 {
				marks = fmt.Sprintf("%d of %d missed", n, len(f.Marks))
			}
		}
		back := "never"
		if p.Recovery != nil {
			back = fmt.Sprintf("%.1f", *p.Recovery)
		}
		rows = append(rows, []string{name, p.Name, fmt.Sprintf("%.0f", p.Offered), fmt.Sprintf("%.1f", p.Goodput),
			fmt.Sprintf("%.3f", p.Ratio), fmt.Sprintf("%.3f", p.Worst), percents(p.Served, "critical"),
			percents(p.Served, "normal"), percents(p.Served, "low"),
			percent(p.GreedyShare), percent(p.OtherShare), fmt.Sprintf("%.1f", p.P50),
			fmt.Sprintf("%.1f", p.P99), percent(p.ShedShare), fmt.Sprintf("%.1f", p.ShedP99), back, calls,
			marks})
	}
	return rows
}

func percents(shares map[string]float64, class string) string {
	v, ok := shares[class]
	if !ok {
		return "-"
	}
	return percent(v)
}

func percent(share float64) string { return fmt.Sprintf("%.2f%%", 100*share) }

package flashsale

import (
	"html/template"
	"io"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/load/plot"
)

var pages = measure.Pages(templateFiles)

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	type table struct {
		Head []string
		Rows [][]string
	}
	values := struct {
		Heading string
		Bars    []measure.MarkRow
		Charts  []template.HTML
		Tables  []table
		Remarks []string
	}{Heading: r.heading(), Bars: measure.MarkRows(r.Marks), Charts: r.charts(), Remarks: r.remarks()}
	all := [][][]string{r.phaseRows(), r.classRows(), r.auditRows(), r.faultRows(), r.leakRows()}
	for _, f := range r.Findings {
		if f.Figures != nil {
			all = append(all, f.reasonRows())
		}
	}
	for _, rows := range all {
		if len(rows) > 1 {
			values.Tables = append(values.Tables, table{rows[0], rows[1:]})
		}
	}
	return pages.ExecuteTemplate(w, "flashsale.html", values)
}

// charts draws goodput, latency, and what becomes of the critical class of all contenders, and what
// became of the requests of the first.
func (r *Report) charts() []template.HTML {
	first := r.first()
	if first == nil {
		return nil
	}
	spans := first.spans()
	end := first.Figures.Phases[len(first.Figures.Phases)-1].To
	goodput := plot.Lines{Title: "goodput a second", XUnit: " s", XMax: end, Spans: spans}
	latency := plot.Lines{Title: "p99 of what succeeded", XUnit: " s", YUnit: " ms", XMax: end, Spans: spans, Log: true,
		YMin: 1}
	critical := plot.Lines{Title: "critical requests served", XUnit: " s", YUnit: " %", XMax: end, YMax: 100,
		Spans: spans}
	for _, f := range r.Findings {
		if f.Figures == nil {
			continue
		}
		s := &f.Figures.Series
		goodput.Series = append(goodput.Series, line(f.Name, s.Goodput, 1))
		latency.Series = append(latency.Series, line(f.Name, s.P99, 1))
		critical.Series = append(critical.Series, line(f.Name, s.Critical, 100))
	}
	if first.possible != nil {
		possible := line("possible", first.possible, 1)
		possible.Dashed = true
		goodput.Series = append(goodput.Series, possible)
	}
	s := &first.Figures.Series
	fate := plot.Lines{Title: first.Name + ": what became of what was sent, a second", XUnit: " s", XMax: end,
		Spans: spans,
		Series: []plot.Series{line("sent", s.Offered, 1), line("succeeded", s.Goodput, 1), line("shed", s.Shed, 1),
			line("failed", s.Failed, 1)}}
	drawn := []template.HTML{goodput.SVG(), latency.SVG(), critical.SVG(), fate.SVG()}
	if len(first.Faults) > 0 {
		failed := plot.Lines{Title: first.Name + ": failed a second, and the faults", XUnit: " s", XMax: end,
			Series: []plot.Series{line("failed", s.Failed, 1)}}
		for _, f := range first.Faults {
			failed.Spans = append(failed.Spans, plot.Span{From: f.Began, To: max(f.Ended, f.Began+0.5), Name: f.Name})
		}
		drawn = append(drawn, failed.SVG())
	}
	return drawn
}

// line is a series by the second. What has no value is left out.
func line(name string, y []float64, factor float64) plot.Series {
	s := plot.Series{Name: name}
	for i, v := range y {
		if v == noValue {
			continue
		}
		s.X, s.Y = append(s.X, float64(i)), append(s.Y, v*factor)
	}
	return s
}

func (f *Finding) spans() (all []plot.Span) {
	for _, p := range f.Figures.Phases {
		all = append(all, plot.Span{From: p.From, To: p.To, Name: p.Name})
	}
	return all
}

package growth

import (
	"html/template"
	"io"
	"math"

	"github.com/sluice-gateway/sluice/bench/load/measure"
	"github.com/sluice-gateway/sluice/bench/load/plot"
)

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	return pages.ExecuteTemplate(w, "report.html", struct {
		*Report
		Where   string
		Marks   []measure.MarkRow
		Columns []string
		Rows    [][]string
		Plot    template.HTML
		Remarks []string
	}{r, r.Where(), measure.MarkRows(r.Marks), columns, r.rows(), r.plot(), r.remarks()})
}

// plot draws CPU a request against the least step, over how many there are in powers of ten.
func (r *Report) plot() template.HTML {
	chart := plot.Lines{Title: "CPU a request against the least step, over the power of ten of how many there are",
		YUnit: " ×", Height: 320}
	for _, a := range r.Axes {
		for _, name := range a.loadNames() {
			s := plot.Series{Name: a.Name + ", " + name}
			for _, p := range a.Points {
				if l := p.load(name); l != nil && l.ToLeast != nil {
					s.X, s.Y = append(s.X, math.Log10(float64(p.Items))), append(s.Y, *l.ToLeast)
				}
			}
			chart.Series = append(chart.Series, s)
		}
	}
	return chart.SVG()
}

// loadNames returns the loads that were measured with any step.
func (a *Axis) loadNames() []string {
	for _, p := range a.Points {
		if len(p.Loads) > 0 {
			names := make([]string, 0, len(p.Loads))
			for _, l := range p.Loads {
				names = append(names, l.Name)
			}
			return names
		}
	}
	return nil
}

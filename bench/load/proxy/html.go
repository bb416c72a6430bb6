package proxy

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

var pages = measure.Pages(templateFiles)

// The plots are drawn here, as plain SVG, so that the report is one file that needs nothing else.

type (
	chart struct {
		Load   string
		Height int
		Bars   []bar
		Rows   [][]string
	}
	bar struct {
		Name, Class, Value      string
		Y, TextY, Width, ValueX int
	}
	tick struct {
		At   float64
		Text string
	}
	curve struct {
		Name, Colour, Points string
		KeyY                 int
	}
	curves struct {
		Across, Down []tick
		Lines        []curve
	}
)

// WriteHTML writes the report as one page without anything from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	values := struct {
		*Report
		Where   string
		Marks   []measure.MarkRow
		Charts  []chart
		Curves  curves
		Idle    [][]string
		Remarks []string
	}{Report: r, Where: r.Where(), Curves: r.curves(), Idle: r.idleRows(), Remarks: r.remarks()}
	values.Marks = measure.MarkRows(r.Marks)
	for _, load := range r.Loads {
		values.Charts = append(values.Charts, r.chart(load))
	}
	return pages.ExecuteTemplate(w, "report.html", values)
}

const (
	barsLeft, barsWide = 200, 580
	barStep            = 24
)

func (r *Report) chart(load measure.Load) chart {
	c := chart{Load: load.Name}
	most := 0.0
	for _, row := range r.Contenders {
		if f := r.figure(row.Name, load); f != nil {
			most = max(most, f.CPUMicros)
		}
	}
	for _, row := range r.Contenders {
		f := r.figure(row.Name, load)
		if f == nil {
			continue
		}
		width := int(barsWide * f.CPUMicros / max(most, 1e-9))
		class := "theirs"
		if strings.HasPrefix(row.Name, gateway) {
			class = "ours"
		}
		c.Bars = append(c.Bars, bar{
			Name: row.Name, Class: class, Value: fmt.Sprintf("%.1f", f.CPUMicros),
			Y: c.Height, TextY: c.Height + 13, Width: width, ValueX: barsLeft + width + 6,
		})
		c.Height += barStep
		c.Rows = append(c.Rows, []string{row.Name, fmt.Sprintf("%.2f", f.CPUMicros), measure.Shown(f.ToNginx, 2),
			measure.Shown(f.ToRelay, 2),
			fmt.Sprintf("%.0f", f.PerSecond), measure.Shown(f.Mallocs, 2), fmt.Sprint(f.Errors)})
	}
	return c
}

func (r *Report) idleRows() [][]string {
	var rows [][]string
	for _, c := range r.Contenders {
		if c.IdleBytes == nil && c.Latency == nil {
			continue
		}
		row := []string{c.Name, measure.Shown(kib(c.IdleBytes), 2), "-", "-", "-", "-"}
		if l := c.Latency; l != nil && l.Failed == "" {
			row = append(row[:2], fmt.Sprintf("%.0f", l.P50), fmt.Sprintf("%.0f", l.P99), fmt.Sprintf("%.0f", l.P999),
				fmt.Sprint(l.Errors))
		}
		rows = append(rows, row)
	}
	return rows
}

var colours = []string{"#9aa7b8", "#2d8a4e", "#79b88f", "#c9711a", "#e0aa6d", "#7a4fb0", "#b02a1d", "#1b6fc4",
	"#0b3c70"}

// curves draws latency over the percentiles. Both axes are logarithmic: down is the share of
// requests above, so that the tail has room.
func (r *Report) curves() curves {
	const left, right, top, bottom = 60, 660, 20, 360
	low, high, deep := math.Inf(1), 0.0, 2.0
	for _, c := range r.Contenders {
		if c.Latency == nil {
			continue
		}
		for _, p := range c.Latency.Curve {
			low, high, deep = min(low, max(p.Micros, 1)), max(high, p.Micros), max(deep, depth(p.Percent))
		}
	}
	if high == 0 {
		return curves{}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(max(high, low*10)))
	x := func(percent float64) float64 { return left + (right-left)*depth(percent)/deep }
	y := func(micros float64) float64 {
		return bottom - (bottom-top)*(math.Log10(max(micros, 1))-low)/max(high-low, 1)
	}
	var out curves
	for e := low; e <= high; e++ {
		out.Across = append(out.Across, tick{y(math.Pow(10, e)), fmt.Sprintf("%g µs", math.Pow(10, e))})
	}
	for _, percent := range []float64{0, 50, 90, 99, 99.9, 99.99} {
		if depth(percent) <= deep {
			out.Down = append(out.Down, tick{x(percent), fmt.Sprintf("%g %%", percent)})
		}
	}
	for i, c := range r.Contenders {
		if c.Latency == nil || len(c.Latency.Curve) == 0 {
			continue
		}
		var points strings.Builder
		for _, p := range c.Latency.Curve {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(p.Percent), y(p.Micros))
		}
		out.Lines = append(out.Lines, curve{c.Name, colours[i%len(colours)], strings.TrimSpace(points.String()), top +
			20*len(out.Lines)})
	}
	return out
}

// depth is how many nines a percentile has: 0 for 0, 1 for 90, 2 for 99.
func depth(percent float64) float64 { return -math.Log10(1 - percent/100) }

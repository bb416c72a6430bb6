package plot

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Lines is a chart of series over one axis. The zero value of everything but Series has a meaning.
type Lines struct {
	Title  string  // also what a screen reader says
	XUnit  string  // behind the numbers of the axis across, for instance " s"
	YUnit  string  // behind the numbers of the axis upwards, for instance " ms"
	Width  int     // in pixels; 0: 860
	Height int     // in pixels; 0: 240
	XMax   float64 // where the axis across ends; 0: at the greatest value
	YMax   float64 // where the axis upwards ends; 0: at the greatest value
	Log    bool    // the axis upwards is logarithmic; values below YMin are drawn at YMin
	YMin   float64 // with Log: where the axis begins; 0: at the least power of ten below all values
	Stack  bool    // areas upon each other in place of lines; every series has the X of the first
	Series []Series
	Spans  []Span
	Levels []Level
}

// Series is one line. A NaN in Y interrupts it.
type Series struct {
	Name   string
	Colour string // any CSS colour; empty: the next of the palette
	Dashed bool
	X, Y   []float64 // of one length
}

// Span is a stretch of the axis across with a name, shown behind the lines.
type Span struct {
	From, To float64
	Name     string
}

// Level is a dashed line across the chart, for instance a bound.
type Level struct {
	At   float64
	Name string
}

// palette holds colours that differ in lightness too, so that they differ in print.
var palette = []string{"#1b6fc4", "#c9711a", "#2d8a4e", "#b02a1d", "#7a4fb0", "#5c6b7d", "#0b3c70", "#e0aa6d",
	"#79b88f", "#d889b5"}

// font is that of a page without a style sheet.
const font = `font-family="system-ui, sans-serif" font-size="12"`

const (
	left, keyWide       = 64, 190 // beside the plot: the numbers of the axis upwards, and the key
	top, bottom         = 22, 26
	usualWide, usualTop = 860, 240
	keyStep             = 18
)

// scale maps values to pixels of one chart.
type scale struct {
	x0, x1, y0, y1 float64 // pixels: left, right, bottom, top
	xMax           float64
	yMin, yMax     float64
	log            bool
}

func (s scale) x(v float64) float64 { return s.x0 + (s.x1-s.x0)*min(max(v/s.xMax, 0), 1) }

func (s scale) y(v float64) float64 {
	if s.log {
		share := math.Log(max(v, s.yMin)/s.yMin) / math.Log(s.yMax/s.yMin)
		return s.y0 + (s.y1-s.y0)*min(share, 1)
	}
	return s.y0 + (s.y1-s.y0)*min(max(v/s.yMax, 0), 1)
}

// SVG draws the chart.
func (c *Lines) SVG() template.HTML {
	wide, high := orElse(c.Width, usualWide), orElse(c.Height, usualTop)
	s := c.scale(wide, high)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s" %s>`, wide, high,
		wide, high, escape(c.Title), font)
	fmt.Fprintf(&b, `<text x="%d" y="13" font-weight="bold">%s</text>`, left, escape(c.Title))
	c.spans(&b, s)
	c.grid(&b, s)
	if c.Stack {
		c.areas(&b, s)
	} else {
		c.lines(&b, s)
	}
	for _, l := range c.Levels {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#b02a1d" stroke-dasharray="5 4"/>`,
			s.x0, s.x1, s.y(l.At), s.y(l.At))
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="end">%s</text>`, s.x1-4, s.y(l.At)-4, escape(l.Name))
	}
	for i, series := range c.Series {
		y := top + keyStep*i
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="14" height="4" fill="%s"/>`, s.x1+14, y+4, c.colour(i))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, s.x1+34, y+10, escape(series.Name))
	}
	b.WriteString("</svg>\n")
	return template.HTML(b.String()) //nolint:gosec // built here; every text in it went through escape
}

func (c *Lines) scale(wide, high int) scale {
	s := scale{x0: left, x1: float64(wide - keyWide), y0: float64(high - bottom), y1: top, xMax: c.XMax, yMax: c.YMax,
		yMin: c.YMin, log: c.Log}
	least := math.Inf(1)
	most := 0.0
	for _, series := range c.Series {
		for i, y := range series.Y {
			if c.XMax == 0 {
				s.xMax = max(s.xMax, series.X[i])
			}
			if !math.IsNaN(y) {
				most = max(most, y)
			}
			if y > 0 {
				least = min(least, y)
			}
		}
	}
	if c.Stack {
		most = greatest(c.Series)
	}
	for _, l := range c.Levels {
		most = max(most, l.At*1.05)
	}
	if c.YMax == 0 {
		s.yMax = most * 1.04
	}
	if s.log && s.yMin == 0 {
		s.yMin = math.Pow(10, math.Floor(math.Log10(min(least, max(most, 1)))))
	}
	if s.xMax == 0 {
		s.xMax = 1
	}
	if s.yMax <= s.yMin {
		s.yMax = max(10*s.yMin, 1)
	}
	return s
}

// greatest returns the greatest sum of the series at one place.
func greatest(series []Series) float64 {
	most := 0.0
	if len(series) == 0 {
		return 0
	}
	for i := range series[0].Y {
		sum := 0.0
		for _, s := range series {
			sum += at(s.Y, i)
		}
		most = max(most, sum)
	}
	return most
}

// at returns the i-th value, 0 where there is none.
func at(values []float64, i int) float64 {
	if i >= len(values) || math.IsNaN(values[i]) {
		return 0
	}
	return values[i]
}

func (c *Lines) spans(b *strings.Builder, s scale) {
	for i, span := range c.Spans {
		fill := "#f4f6f9"
		if i%2 == 1 {
			fill = "#e9edf3"
		}
		from, to := s.x(span.From), s.x(span.To)
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, from, s.y1, to-from, s.y0-s.y1,
			fill)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill-opacity=".6">%s</text>`, from+3, s.y1+12, escape(span.Name))
	}
}

// grid draws the axes with their numbers.
func (c *Lines) grid(b *strings.Builder, s scale) {
	for _, v := range c.rows(s) {
		y := s.y(v)
		fmt.Fprintf(b, `<line class="grid" stroke="#d5dbe4" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, s.x0, s.x1,
			y, y)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="end">%g%s</text>`, s.x0-5, y+4, v, escape(c.YUnit))
	}
	for _, v := range ticks(s.xMax, 8) {
		x := s.x(v)
		fmt.Fprintf(b, `<line class="grid" stroke="#d5dbe4" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x, x, s.y0,
			s.y0+4)
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%g%s</text>`, x, s.y0+18, v, escape(c.XUnit))
	}
}

// rows returns where the lines across are.
func (c *Lines) rows(s scale) []float64 {
	if !s.log {
		return ticks(s.yMax, 4)
	}
	var rows []float64
	for e := math.Ceil(math.Log10(s.yMin) - 1e-9); e <= math.Log10(s.yMax)+1e-9; e++ {
		rows = append(rows, math.Pow(10, e))
	}
	return rows
}

func (c *Lines) lines(b *strings.Builder, s scale) {
	for i := len(c.Series) - 1; i >= 0; i-- { // the first is drawn last, above the others
		series, dash := c.Series[i], ""
		if series.Dashed {
			dash = ` stroke-dasharray="4 3"`
		}
		for _, points := range unbroken(series, s) {
			fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"%s/>`, points, c.colour(i),
				dash)
		}
	}
}

// unbroken returns the points of every stretch of the series without a gap.
func unbroken(series Series, s scale) []string {
	var all []string
	var points strings.Builder
	end := func() {
		if points.Len() > 0 {
			all = append(all, strings.TrimSpace(points.String()))
			points.Reset()
		}
	}
	for i, y := range series.Y {
		if math.IsNaN(y) {
			end()
			continue
		}
		fmt.Fprintf(&points, "%.1f,%.1f ", s.x(series.X[i]), s.y(y))
	}
	end()
	return all
}

// areas draws every series upon those before it.
func (c *Lines) areas(b *strings.Builder, s scale) {
	if len(c.Series) == 0 {
		return
	}
	xs := c.Series[0].X
	below := make([]float64, len(xs))
	for i, series := range c.Series {
		var points strings.Builder
		for j := len(xs) - 1; j >= 0; j-- {
			fmt.Fprintf(&points, "%.1f,%.1f ", s.x(xs[j]), s.y(below[j]))
		}
		for j := range xs {
			below[j] += at(series.Y, j)
			fmt.Fprintf(&points, "%.1f,%.1f ", s.x(xs[j]), s.y(below[j]))
		}
		fmt.Fprintf(b, `<polygon points="%s" fill="%s" fill-opacity=".75"/>`, strings.TrimSpace(points.String()),
			c.colour(i))
	}
}

func (c *Lines) colour(i int) string {
	if c.Series[i].Colour != "" {
		return escape(c.Series[i].Colour)
	}
	return palette[i%len(palette)]
}

// ticks returns about n round numbers from 0 to most.
func ticks(most float64, n int) []float64 {
	if most <= 0 || math.IsInf(most, 0) || math.IsNaN(most) {
		return []float64{0}
	}
	step := math.Pow(10, math.Floor(math.Log10(most/float64(n))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if most/(step*factor) <= float64(n) {
			step *= factor
			break
		}
	}
	digits := math.Pow(10, 3-math.Floor(math.Log10(step)))
	var values []float64
	for i := 0; float64(i)*step <= most*1.0001; i++ {
		values = append(values, math.Round(float64(i)*step*digits)/digits) // not 0.30000000000000004
	}
	return values
}

func escape(text string) string { return template.HTMLEscapeString(text) }

func orElse(value, otherwise int) int {
	if value == 0 {
		return otherwise
	}
	return value
}

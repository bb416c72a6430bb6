package plot

import (
	"fmt"
	"html/template"
	"strings"
)

// Bars is a chart of one figure of several contenders, one bar each.
type Bars struct {
	Title  string
	Unit   string // behind the figures
	Digits int    // of the figures, behind the point
	Bars   []Bar
	Bound  float64 // drawn across all bars; 0: none
}

// Bar is the figure of one contender.
type Bar struct {
	Name  string
	Value float64
	Ours  bool // in the stronger colour
}

const (
	barsLeft, barsWide = 200, 540
	barStep, barsTop   = 22, 24
)

// SVG draws the chart.
func (c *Bars) SVG() template.HTML {
	most := c.Bound
	for _, bar := range c.Bars {
		most = max(most, bar.Value)
	}
	if most <= 0 {
		most = 1
	}
	high := barsTop + barStep*len(c.Bars)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s" %s>`, usualWide,
		high, usualWide, high, escape(c.Title), font)
	fmt.Fprintf(&b, `<text x="%d" y="13" font-weight="bold">%s</text>`, barsLeft, escape(c.Title))
	for i, bar := range c.Bars {
		y := barsTop + barStep*i
		fill := "#9aa7b8"
		if bar.Ours {
			fill = palette[0]
		}
		width := barsWide * max(bar.Value, 0) / most
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, barsLeft-10, y+12, escape(bar.Name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="15" fill="%s"/>`, barsLeft, y, width, fill)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d">%.*f%s</text>`, barsLeft+width+6, y+12, c.Digits, bar.Value,
			escape(c.Unit))
	}
	if c.Bound > 0 {
		x := barsLeft + barsWide*c.Bound/most
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#b02a1d" stroke-dasharray="5 4"/>`, x, x,
			barsTop-4, high)
	}
	b.WriteString("</svg>\n")
	return template.HTML(b.String()) //nolint:gosec // built here; every text in it went through escape
}

package measure

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// comparedMax is the ratio of this build to the other one up to which a figure counts as no worse.
const comparedMax = 1.03

// Comparison is the report: what a run of two builds, round by round, found.
type Comparison struct {
	Command string `json:"command"`
	Setting
	FileSystem string  `json:"fileSystem,omitempty"` // of the records
	This       Build   `json:"this"`
	Other      Build   `json:"other"`
	Figures    []*Pair `json:"figures"`
}

// Build is one of the two programs.
type Build struct {
	Path    string `json:"path"`
	Version string `json:"version"` // as the program tells it
	SHA256  string `json:"sha256"`
}

// Pair is one figure of both builds.
type Pair struct {
	What         string    `json:"what"`
	Unit         string    `json:"unit"`
	This         []float64 `json:"this"` // by round
	Other        []float64 `json:"other"`
	ThisMallocs  []float64 `json:"thisMallocs,omitempty"` // heap objects a request, by round
	OtherMallocs []float64 `json:"otherMallocs,omitempty"`
	Ratio        *float64  `json:"ratio,omitempty"` // median of the rounds' ratios, this by the other
	Low          *float64  `json:"low,omitempty"`   // 95 % confidence interval of that median; nil: too few rounds
	High         *float64  `json:"high,omitempty"`
	Missed       bool      `json:"missed"` // the whole interval lies beyond the limit
	Errors       int64     `json:"errors"` // of both builds
	Failed       string    `json:"failed,omitempty"`

	busy bool // the machine, so that it is not judged
}

// settle computes ratio, interval and verdict from the rounds.
func (p *Pair) settle() {
	var ratios []float64
	for i := range min(len(p.This), len(p.Other)) {
		if p.This[i] > 0 && p.Other[i] > 0 {
			ratios = append(ratios, p.This[i]/p.Other[i])
		}
	}
	if len(ratios) == 0 {
		if p.Failed == "" {
			p.Failed = "not measured"
		}
		return
	}
	ratio := Median(ratios)
	p.Ratio = &ratio
	if low, high, ok := medianInterval(ratios); ok {
		p.Low, p.High = &low, &high
		p.Missed = low > comparedMax && !p.busy
	}
}

// fail notes the first thing that made the figure void.
func (p *Pair) fail(format string, args ...any) {
	if p.Failed == "" {
		p.Failed = fmt.Sprintf(format, args...)
	}
}

func (p *Pair) verdict() string {
	switch {
	case p.Failed != "":
		return p.Failed
	case p.busy:
		return "not judged: the machine was busy"
	case p.Low == nil:
		return fmt.Sprintf("no verdict: fewer than %d rounds", intervalRoundsMin)
	case p.Missed:
		return "missed"
	case *p.High > comparedMax:
		return "not missed; the interval reaches beyond"
	}
	return "met"
}

func (p *Pair) interval() string {
	if p.Low == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f to %.3f", *p.Low, *p.High)
}

func (p *Pair) cells() []string {
	shown := func(rounds []float64, digits int) string {
		if len(rounds) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.*f", digits, Median(rounds))
	}
	mallocs := func(rounds []float64) string {
		if len(rounds) == 0 {
			return "-"
		}
		// what reading the metric costs is taken off, and may have been more once
		return fmt.Sprintf("%.2f", max(0, Median(rounds)))
	}
	ratio := "-"
	if p.Ratio != nil {
		ratio = fmt.Sprintf("%.3f", *p.Ratio)
	}
	return []string{p.What, shown(p.This, 2) + " " + p.Unit, shown(p.Other, 2) + " " + p.Unit, ratio, p.interval(),
		mallocs(p.ThisMallocs), mallocs(p.OtherMallocs)}
}

const (
	intervalConfidence = 0.95
	intervalRoundsMin  = 6 // of five values even the whole range covers the median in 94 % of all cases only
)

// medianInterval returns a 95 % confidence interval of the median of what the values are a sample
// of: that of the sign test, from one order statistic to the one as far from the other end. It
// holds whatever the distribution is, symmetric or not, and covers the median at least that often.
// It is exact up to ties, where it covers more. Not ok: there are too few values. (W. J. Conover,
// Practical Nonparametric Statistics, 3rd edition, §3.2: confidence interval for a quantile.)
func medianInterval(values []float64) (low, high float64, ok bool) {
	n := len(values)
	s := slices.Sorted(slices.Values(values))
	lgamma := func(x int) float64 { v, _ := math.Lgamma(float64(x)); return v }
	k, below := 0, 0.0
	for i := range n {
		below += math.Exp(lgamma(n+1) - lgamma(i+1) - lgamma(n-i+1) - float64(n)*math.Ln2)
		if 2*below > 1-intervalConfidence {
			break
		}
		k = i + 1
	}
	if k == 0 {
		return 0, 0, false
	}
	return s[k-1], s[n-k], true
}

// Err returns nil when every figure was measured, whatever the verdicts are.
func (c *Comparison) Err() error {
	var failed []error
	for _, p := range c.Figures {
		if p.Failed != "" {
			failed = append(failed, fmt.Errorf("measure: %s: %s", p.What, p.Failed))
		}
	}
	return errors.Join(failed...)
}

// comparisonColumns are those of the table, before the verdict.
var comparisonColumns = []string{"figure", "this build", "the other", "this/other", "95 % interval", "allocations",
	"the other's"}

// head says what ran where.
func (c *Comparison) head() []string {
	where := fmt.Sprintf("%d rounds of %v, upstream %s, %s", c.Rounds, c.Duration, c.Upstream, c.Where())
	if c.FileSystem != "" {
		where += ", records on " + c.FileSystem
	}
	lines := []string{where}
	if busy := c.Busy(); busy != "" {
		lines = append(lines, busy)
	}
	return append(lines, "this build: "+c.This.String(), "the other:  "+c.Other.String())
}

func (b Build) String() string {
	return fmt.Sprintf("%s, %s, sha256 %.12s", b.Path, b.Version, b.SHA256)
}

// comparedNote is what the verdicts mean.
var comparedNote = fmt.Sprintf("medians over the rounds; ratios are those of the rounds, pair by pair. A figure is "+
	"missed when its whole interval lies beyond %g.", comparedMax)

// WriteTable writes the comparison as plain text.
func (c *Comparison) WriteTable(w io.Writer) error {
	var text strings.Builder
	for _, line := range c.head() {
		text.WriteString(line + "\n")
	}
	tw := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "\n%s\tat most %g\n", strings.Join(comparisonColumns, "\t"), comparedMax)
	for _, p := range c.Figures {
		fmt.Fprintf(tw, "%s\t%s\n", strings.Join(p.cells(), "\t"), p.verdict())
	}
	tw.Flush()
	text.WriteString("\n" + comparedNote + "\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// WriteHTML writes the comparison as one page without anything from elsewhere.
func (c *Comparison) WriteHTML(w io.Writer) error {
	type row struct {
		Cells          []string
		Verdict, Class string
		Plot           *intervalPlot
	}
	values := struct {
		*Comparison
		Head, Columns []string
		Limit         float64
		LimitX, OneX  float64
		Note          string
		Rows          []row
	}{Comparison: c, Head: c.head(), Columns: comparisonColumns, Limit: comparedMax, Note: comparedNote}
	scale := c.plotScale()
	values.LimitX, values.OneX = scale.x(comparedMax), scale.x(1)
	for _, p := range c.Figures {
		class := "met"
		if p.Missed {
			class = "missed"
		} else if p.Failed != "" || p.Low == nil || p.busy {
			class = ""
		}
		values.Rows = append(values.Rows, row{p.cells(), p.verdict(), class, scale.plot(p)})
	}
	return pages.ExecuteTemplate(w, "compare.html", values)
}

// intervalPlot is a line from the low to the high end of an interval, with a mark at the median.
type intervalPlot struct{ Low, High, Median float64 }

const plotWidth = 260

// plotScale is the range of ratios that all plots of a page share.
type plotScale struct{ low, high float64 }

func (c *Comparison) plotScale() plotScale {
	s := plotScale{0.95, 1.08}
	for _, p := range c.Figures {
		if p.Low != nil {
			s.low, s.high = min(s.low, *p.Low), max(s.high, *p.High)
		}
	}
	return s
}

func (s plotScale) x(ratio float64) float64 {
	return math.Round(10*plotWidth*(ratio-s.low)/(s.high-s.low)) / 10
}

func (s plotScale) plot(p *Pair) *intervalPlot {
	if p.Low == nil {
		return nil
	}
	return &intervalPlot{s.x(*p.Low), s.x(*p.High), s.x(*p.Ratio)}
}

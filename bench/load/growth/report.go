package growth

import (
	"embed"
	"fmt"
	"math"
	"text/template"

	"github.com/sluice-gateway/sluice/bench/load/measure"
)

//go:embed templates
var templateFiles embed.FS

var (
	configurations = template.Must(template.ParseFS(templateFiles, "templates/*.tmpl"))
	pages          = measure.Pages(templateFiles)
)

// Report is what one run found.
type Report struct {
	measure.Setting
	Connections int            `json:"connections"`
	Quick       bool           `json:"quick,omitempty"` // there are no verdicts
	Axes        []*Axis        `json:"axes"`
	Marks       []measure.Mark `json:"marks,omitempty"`
}

// Axis is one thing that there can be many of.
type Axis struct {
	Name   string   `json:"name"`
	Points []*Point `json:"points"` // in ascending order

	memory, start bool // are judged
}

// Point is one gateway with so many of them.
type Point struct {
	Items       int          `json:"items"`
	Failed      string       `json:"failed,omitempty"` // why there are no figures
	Loads       []LoadResult `json:"loads,omitempty"`
	MemoryBytes float64      `json:"memoryBytes"`         // of the process, without the pages of files
	MoreBytes   float64      `json:"moreBytes,omitempty"` // than before they were there; 0: the configuration has them
	StartMillis float64      `json:"startCPUMillis"`      // CPU time until connections are accepted
	Reload      *Reload      `json:"reload,omitempty"`
}

// LoadResult is the figure of one load.
type LoadResult struct {
	Name string `json:"name"`
	*measure.Figure
	ToLeast *float64 `json:"toLeast,omitempty"` // CPU a request against the first step, median over the rounds
}

// Reload is what reloads took, by round, in milliseconds.
type Reload struct {
	Failed        string    `json:"failed,omitempty"`
	TookMillis    []float64 `json:"tookMillis"`
	SlowestMillis []float64 `json:"slowestMillis"` // request while the reload was under way
	QuietMillis   []float64 `json:"quietMillis"`   // slowest request of as many without a reload
}

// The marks.
const (
	perDecade    = 0.1 // of CPU a request, for each factor of ten
	linearSlack  = 1.5 // one costs at most that much of what it cost in the step before
	reloadMillis = 200
	slowerMillis = 10   // than without a reload; ours to choose, the promise is "no slow request"
	judgedFrom   = 1000 // items: memory and start of fewer are within the noise of a process
)

// load returns the figure of that name, nil without one that counts.
func (p *Point) load(name string) *LoadResult {
	for i := range p.Loads {
		if l := &p.Loads[i]; l.Name == name && l.Failed == "" && l.Requests > 0 {
			return l
		}
	}
	return nil
}

// settle fills in ratios and marks.
func (r *Report) settle() {
	for _, a := range r.Axes {
		for _, p := range a.Points {
			for i := range p.Loads {
				if least := a.Points[0].load(p.Loads[i].Name); least != nil {
					p.Loads[i].ToLeast = measure.Ratio(p.Loads[i].Figure, least.Figure)
				}
			}
		}
		if !r.Quick {
			r.judge(a)
		}
	}
}

func (r *Report) judge(a *Axis) {
	first, last := a.Points[0], a.Points[len(a.Points)-1]
	for _, l := range last.Loads {
		limit := 1 + perDecade*math.Log10(float64(last.Items)/float64(first.Items))
		mark := measure.Mark{What: fmt.Sprintf("%s, %s: CPU a request of %d against %d", a.Name, l.Name, last.Items,
			first.Items), Limit: math.Round(limit*100) / 100, Unit: "×", Got: l.ToLeast}
		figures := []*measure.Figure{l.Figure}
		if least := first.load(l.Name); least != nil {
			figures = append(figures, least.Figure)
		}
		r.Marks = append(r.Marks, mark.Judged(0, figures...))
	}
	if a.memory {
		r.Marks = append(r.Marks, a.linear("memory", func(p *Point) float64 {
			if p.MoreBytes != 0 {
				return p.MoreBytes
			}
			return p.MemoryBytes - first.MemoryBytes
		}))
	}
	if a.start {
		r.Marks = append(r.Marks, a.linear("CPU time of the start", func(p *Point) float64 {
			return p.StartMillis - first.StartMillis
		}))
		r.judgeReload(a.Name, last)
	}
}

// linear judges the growth of a value from the last step but one to the last.
func (a *Axis) linear(what string, of func(*Point) float64) measure.Mark {
	last, before := a.Points[len(a.Points)-1], a.Points[len(a.Points)-2]
	mark := measure.Mark{What: fmt.Sprintf("%s, %s: one of %d against one of %d", a.Name, what, last.Items,
		before.Items), Limit: linearSlack, Unit: "×"}
	if before.Items >= judgedFrom && last.Failed == "" && before.Failed == "" && of(before) > 0 {
		got := of(last) / float64(last.Items) / (of(before) / float64(before.Items))
		mark.Got = &got
	}
	return mark.Judged(0)
}

func (r *Report) judgeReload(name string, p *Point) {
	took := measure.Mark{What: fmt.Sprintf("reload with %d %s", p.Items, name), Limit: reloadMillis, Unit: " ms"}
	slower := measure.Mark{What: "slowest request meanwhile, more than without a reload", Limit: slowerMillis,
		Unit: " ms"}
	if re := p.Reload; re != nil && re.Failed == "" && len(re.TookMillis) > 0 {
		median := measure.Median(re.TookMillis)
		more := measure.Median(re.SlowestMillis) - measure.Median(re.QuietMillis)
		took.Got, slower.Got = &median, &more
	}
	r.Marks = append(r.Marks, took.Judged(0), slower.Judged(0))
}

// remarks returns one line for everything that went wrong.
func (r *Report) remarks() []string {
	var lines []string
	for _, a := range r.Axes {
		for _, p := range a.Points {
			add := func(format string, args ...any) {
				lines = append(lines, fmt.Sprintf("%d %s: ", p.Items, a.Name)+fmt.Sprintf(format, args...))
			}
			if p.Failed != "" {
				add("%s", p.Failed)
			}
			for _, l := range p.Loads {
				if l.Failed != "" {
					add("%s: given up: %s", l.Name, l.Failed)
				} else if l.Errors > 0 {
					add("%s: %d errors in %d requests, first: %s", l.Name, l.Errors, l.Requests, l.FirstError)
				}
			}
			if p.Reload != nil && p.Reload.Failed != "" {
				add("reload: %s", p.Reload.Failed)
			}
		}
	}
	return lines
}

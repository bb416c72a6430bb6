package flashsale

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
)

// progress tells how far a run is: a bar on a terminal, elsewhere a line for each new stage. It is
// for one goroutine at a time.
type progress struct {
	w        io.Writer
	terminal bool
	width    int // of the last bar, to wipe it
	what     string
}

func newProgress(w io.Writer, terminal bool) *progress {
	if w == nil {
		w = io.Discard
	}
	return &progress{w: w, terminal: terminal}
}

const (
	barWidth      = 30
	progressEvery = 250 * time.Millisecond
)

// say begins a stage.
func (p *progress) say(format string, args ...any) {
	p.what = fmt.Sprintf(format, args...)
	if !p.terminal {
		fmt.Fprintln(p.w, p.what)
		return
	}
	p.draw(p.what)
}

func (p *progress) draw(line string) {
	fmt.Fprintf(p.w, "\r%-*s", p.width, line)
	p.width = len(line)
}

// end wipes the bar.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprintf(p.w, "\r%-*s\r", p.width, "")
	}
}

// follow draws the bar of a load until stop is closed.
func (p *progress) follow(r *openloop.Runner, length time.Duration, stop <-chan struct{}) {
	began := time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var last openloop.Count
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		c := r.Count()
		share := min(1, time.Since(began).Seconds()/max(length.Seconds(), 0.001))
		full := int(barWidth * share)
		if p.terminal {
			p.draw(fmt.Sprintf("[%s%s] %3.0f%% %s: %.0f/s sent, %.0f/s good, %.0f/s shed, %d in flight",
				strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*share, p.what,
				perTick(c.Sent-last.Sent), perTick(c.Succeeded-last.Succeeded), perTick(c.Shed-last.Shed), c.InFlight))
		}
		last = c
	}
}

func perTick(n int64) float64 { return float64(n) / progressEvery.Seconds() }

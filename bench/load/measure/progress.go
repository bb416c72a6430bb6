package measure

import (
	"fmt"
	"io"
	"strings"
)

// progress tells how far a run is: a bar on a terminal, elsewhere a line for each new stage.
type progress struct {
	w        io.Writer
	terminal bool
	done     int
	total    int
	what     string
	width    int // of the last bar, to wipe it
}

func newProgress(w io.Writer, terminal bool) *progress {
	if w == nil {
		w = io.Discard
	}
	return &progress{w: w, terminal: terminal}
}

const barWidth = 30

// step begins the next of total steps. What cannot be shown is not worth an error.
func (p *progress) step(what, contender string) {
	if p.terminal {
		full := barWidth * p.done / max(p.total, 1)
		line := fmt.Sprintf("[%s%s] %3d%% %s: %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full),
			100*p.done/max(p.total, 1), what, contender)
		_, _ = fmt.Fprintf(p.w, "\r%-*s", p.width, line)
		p.width = len(line)
	} else if what != p.what {
		_, _ = fmt.Fprintf(p.w, "%3d%% %s\n", 100*p.done/max(p.total, 1), what)
	}
	p.what = what
	p.done++
}

// end wipes the bar.
func (p *progress) end() {
	if p.terminal {
		_, _ = fmt.Fprintf(p.w, "\r%-*s\r", p.width, "")
	}
}

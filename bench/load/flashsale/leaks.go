package flashsale

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Holding is what a process has taken at a moment.
type Holding struct {
	Goroutines  int64 `json:"goroutines"` // 0: it does not tell
	Descriptors int64 `json:"descriptors"`
	// Memory is what is resident of the process's own. Pages of the program's file are not counted: code that ran once
	// stays mapped, the gateways share it, and the system takes it back when it wants to.
	Memory int64 `json:"memoryBytes"`
	// Live is what the last collection of garbage found in use: what the process keeps. 0: it does not tell.
	Live int64 `json:"liveBytes"`
}

// Leak is what a process held at the start, and after the load and a time to cool down.
type Leak struct {
	Process string  `json:"process"`
	Start   Holding `json:"start"`
	End     Holding `json:"end"`
	Note    string  `json:"note,omitempty"`
}

// within tells whether the end is at most a tenth above the start. Few of something may be some
// more.
func within(start, end, slack int64) bool { return end <= start+max(start/10, slack) }

const (
	slackGoroutines  = 10
	slackDescriptors = 10
	slackMemory      = 8 << 20
	slackLive        = 1 << 20
)

// grown names what the process has not given back.
func (l *Leak) grown() (what []string) {
	for _, c := range []struct {
		name              string
		start, end, slack int64
	}{
		{"goroutines", l.Start.Goroutines, l.End.Goroutines, slackGoroutines},
		{"descriptors", l.Start.Descriptors, l.End.Descriptors, slackDescriptors},
		{"bytes of live heap", l.Start.Live, l.End.Live, slackLive},
		{"bytes of memory", l.Start.Memory, l.End.Memory, slackMemory},
	} {
		if !within(c.start, c.end, c.slack) {
			what = append(what, fmt.Sprintf("%s: %s from %d to %d", l.Process, c.name, c.start, c.end))
		}
	}
	return what
}

// hold reads what a gateway holds. admin is empty for others.
func hold(ctx context.Context, pid int, admin string) (h Holding, err error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, fmt.Errorf("flashsale: %w", err)
	}
	h.Descriptors = int64(len(entries))
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return h, fmt.Errorf("flashsale: %w", err)
	}
	var size, resident, ofFiles int64
	if _, err := fmt.Sscan(string(statm), &size, &resident, &ofFiles); err != nil {
		return h, fmt.Errorf("flashsale: %w", err)
	}
	h.Memory = (resident - ofFiles) * int64(os.Getpagesize())
	if admin != "" {
		n, err := metric(ctx, admin, "go_goroutines")
		if err != nil {
			return h, err
		}
		h.Goroutines = int64(n)
		// The runtime collects again when the heap is twice what was live.
		if n, err = metric(ctx, admin, "go_memstats_next_gc_bytes"); err != nil {
			return h, err
		}
		h.Live = int64(n / 2)
	}
	return h, nil
}

// metric reads one metric of a gateway.
func metric(ctx context.Context, admin, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, fmt.Errorf("flashsale: %w", err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("flashsale: %s has no metric %s", admin, name)
}

// holdings reads all gateways, or the peer.
func (w *world) holdings(ctx context.Context) (map[string]Holding, error) {
	all := map[string]Holding{}
	for _, g := range w.gateways {
		h, err := hold(ctx, g.pid(), g.admin)
		if err != nil {
			return nil, err
		}
		all[g.name] = h
	}
	return all, nil
}

const (
	coolLimit = 90 * time.Second // idle connections of a gateway close after 55 s
	coolPause = time.Second
)

// cooled waits until what the gateways hold is near what they held at the start, or the limit is
// over. A gateway that was started anew in between is compared with the others' start.
func (w *world) cooled(ctx context.Context, start map[string]Holding, limit time.Duration) ([]Leak, error) {
	for deadline := time.Now().Add(limit); ; {
		now, err := w.holdings(ctx)
		if err != nil {
			return nil, err
		}
		var leaks []Leak
		grown := false
		for _, g := range w.gateways {
			l := Leak{Process: g.name, Start: start[g.name], End: now[g.name]}
			grown = grown || len(l.grown()) > 0
			leaks = append(leaks, l)
		}
		if !grown || time.Now().After(deadline) {
			return leaks, nil
		}
		if !sleepUntil(ctx, time.Now().Add(coolPause)) {
			return leaks, ctx.Err()
		}
	}
}

package measure

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MallocsMetric counts the heap objects that a Go program ever allocated.
const MallocsMetric = "go_memstats_mallocs_total"

// mallocs reads the metric twice and returns the second value with what a reading itself costs.
func mallocs(ctx context.Context, admin string) (count, reading float64, err error) {
	first, err := readMallocs(ctx, admin)
	if err != nil {
		return 0, 0, err
	}
	count, err = readMallocs(ctx, admin)
	return count, count - first, err
}

func readMallocs(ctx context.Context, admin string) (float64, error) {
	text, err := readMetrics(ctx, admin)
	if err != nil {
		return 0, err
	}
	return metric(text, MallocsMetric)
}

// readMetrics returns a process' metrics as it serves them.
func readMetrics(ctx context.Context, admin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("measure: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("measure: %w", err)
	}
	return string(text), nil
}

// metric returns the value of a metric; its labels, if it has any, are part of the name.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("measure: there is no metric %s", name)
}

// ReadMetric returns the value of one metric of a process.
func ReadMetric(ctx context.Context, admin, name string) (float64, error) {
	text, err := readMetrics(ctx, admin)
	if err != nil {
		return 0, err
	}
	return metric(text, name)
}

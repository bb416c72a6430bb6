package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// mallocsMetric counts the heap objects that a Go program ever allocated.
const mallocsMetric = "go_memstats_mallocs_total"

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
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("proxy: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("proxy: %w", err)
	}
	return metric(string(text), mallocsMetric)
}

// metric returns the value of a metric without labels.
func metric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("proxy: there is no metric %s", name)
}

package idempotency

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

// TestCompare runs a build against itself, as shortly as it can: every figure is there, pair by
// pair; what they are means nothing.
func TestCompare(t *testing.T) {
	t.Parallel()
	program, dir := build.Sluice(t), t.TempDir()
	found, err := Compare(t.Context(), Options{
		Program: program, Against: program, Dir: dir, Duration: 50 * time.Millisecond, Rounds: 2, Connections: 8,
		Rate: 1,
		Only: regexp.MustCompile(`^(embedded|Redis) store: (keyed POST|replay)$`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Err(); err != nil {
		t.Error(err)
	}
	var figures []string
	for _, p := range found.Figures {
		if figures = append(figures, p.What); len(p.This) != 2 || len(p.Other) != 2 {
			t.Errorf("%s: rounds %v and %v, want two of each build", p.What, p.This, p.Other)
		}
	}
	want := []string{"embedded store: keyed POST", "embedded store: replay", "Redis store: keyed POST",
		"Redis store: replay"}
	if !slices.Equal(figures, want) || found.FileSystem == "" {
		t.Errorf("figures %q on %q, want %q", figures, found.FileSystem, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestCompareInVain: a build that does not start is named with what it said; an expression that
// asks for nothing is refused.
func TestCompareInVain(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "sluice")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho no such setting >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{Program: build.Sluice(t), Against: other, Duration: 50 * time.Millisecond, Rounds: 1, Rate: 1,
		Only: regexp.MustCompile("^memory")}
	if _, err := Compare(t.Context(), o); err == nil || !strings.Contains(err.Error(), other) ||
		!strings.Contains(err.Error(), "no such setting") {
		t.Errorf("%v, want an error that names %s and what it said", err, other)
	}
	o.Only = regexp.MustCompile("^none$")
	if _, err := Compare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--only") {
		t.Errorf("%v, want an error that names --only", err)
	}
}

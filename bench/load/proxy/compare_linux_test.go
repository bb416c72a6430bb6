package proxy

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/load/measure"
)

// TestCompare runs a build against itself, as shortly as it can: every figure is there, pair by
// pair; what they are means nothing.
func TestCompare(t *testing.T) {
	t.Parallel()
	program := build.Sluice(t)
	found, err := Compare(t.Context(), measure.Options{
		Program: program, Against: program, Duration: 50 * time.Millisecond, Rounds: 2, Connections: 8,
		IdleConnections: 20, Rate: 1,
		Only: regexp.MustCompile(`^sluice: (GET|memory .*)$|gRPC`),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantComparison(t, found, 2, "sluice: memory an idle connection", "sluice: GET", "sluice, h2c service: gRPC unary")
}

func wantComparison(t *testing.T, found *measure.Comparison, rounds int, figures ...string) {
	t.Helper()
	if err := found.Err(); err != nil {
		t.Error(err)
	}
	var got []string
	for _, p := range found.Figures {
		got = append(got, p.What)
		if len(p.This) != rounds || len(p.Other) != rounds || p.Ratio == nil {
			t.Errorf("%s: %+v, want both builds in %d rounds", p.What, p, rounds)
		}
	}
	if strings.Join(got, "\n") != strings.Join(figures, "\n") {
		t.Errorf("figures %q, want %q", got, figures)
	}
	if found.This.SHA256 == "" || found.This.SHA256 != found.Other.SHA256 || !strings.HasPrefix(found.This.Version,
		"sluice ") {
		t.Errorf("builds %+v and %+v, want the same one", found.This, found.Other)
	}
	if err := found.WriteTable(io.Discard); err != nil {
		t.Error(err)
	}
	if err := found.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
}

// TestCompareWithABuildThatDoesNotStart: there is nothing to compare then, and the error says with
// which.
func TestCompareWithABuildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "sluice")
	if err := os.WriteFile(other, []byte("#!/bin/sh\necho no such setting >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := build.Sluice(t)
	o := measure.Options{Program: program, Against: other, Duration: 50 * time.Millisecond, Rounds: 1, Connections: 1,
		IdleConnections: 1, Rate: 1, Only: regexp.MustCompile("^sluice: GET$")}
	if _, err := Compare(t.Context(), o); err == nil || !strings.Contains(err.Error(), other) ||
		!strings.Contains(err.Error(), "no such setting") {
		t.Errorf("%v, want an error that names %s and what it said", err, other)
	}
	o.Only = regexp.MustCompile("^nginx$")
	if _, err := Compare(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--only") {
		t.Errorf("%v, want an error that names --only", err)
	}
}

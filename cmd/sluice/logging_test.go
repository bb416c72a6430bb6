package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/grpclog"
)

// TestLibrariesLogAsTheGatewayDoes: what gRPC tells is one line of the gateway's log, in its form, at debug.
func TestLibrariesLogAsTheGatewayDoes(t *testing.T) {
	for level, want := range map[slog.Level]int{slog.LevelDebug: 2, slog.LevelInfo: 0} {
		var out bytes.Buffer
		useLibraries(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level})))
		grpclog.Info("what nobody asked for")
		grpclog.Warning("a warning")
		grpclog.Error("a failure")
		if n := strings.Count(out.String(), "\n"); n != want || strings.Count(out.String(), `"msg":"grpc: `) != want {
			t.Errorf("at %s: %s", level, out.String())
		}
	}
	useLibraries(slog.New(slog.DiscardHandler))
}

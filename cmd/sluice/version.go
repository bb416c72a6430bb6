package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version replaces what the Go command knows of the build, where there is no git:
//
//	go build -ldflags '-X main.version=v1.2.3' ./cmd/sluice
var version string

// buildInfo is what this binary knows of its build.
type buildInfo struct {
	version  string // the module's version or the commit that it was built from, else "devel"
	revision string // the commit, whole; empty when it is not known
	modified bool   // files were changed since the commit
}

// thisBuild reads what the Go command stamped into this binary.
func thisBuild() buildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return readBuildInfo(version, info)
}

func readBuildInfo(override string, info *debug.BuildInfo) buildInfo {
	b := buildInfo{version: "devel"}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	switch v := info.Main.Version; {
	case override != "":
		b.version = override
	case v != "" && v != "(devel)":
		b.version = v
	default:
		if b.revision != "" {
			b.version += "-" + b.revision[:min(12, len(b.revision))]
		}
		if b.modified {
			b.version += "+changed"
		}
	}
	return b
}

func (b buildInfo) String() string {
	text := "sluice " + b.version
	if b.revision != "" {
		text += " (commit " + b.revision
		if b.modified {
			text += ", modified"
		}
		text += ")"
	}
	return fmt.Sprintf("%s %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit it was built from and the version of Go",
		Args:  cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), thisBuild())
			return err
		}),
	}
}

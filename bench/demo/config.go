package demo

import (
	_ "embed" // the configuration's template
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed sluice.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("sluice.yaml").Parse(configText))

// settings are what the configuration's template is filled with.
type settings struct {
	Listen, Admin string
	addresses
}

// writeConfig writes the demo's configuration into dir and returns its path.
func writeConfig(dir string, s settings) (string, error) {
	var text strings.Builder
	if err := configTemplate.Execute(&text, s); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	path := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("demo: %w", err)
	}
	return path, nil
}

package flashsale

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-gateway/sluice/bench/load/flashsale/openloop"
)

func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// vegetaMax bounds the number of targets in one file.
const vegetaMax = 200_000

// Export writes the load for other tools into a folder: profile.json for this one, sale.js for k6,
// a file of targets and its rate for each phase for vegeta, and how to run them.
func Export(dir string, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	m := saleMix(o.Seed, o.Capacity.PerSecond(), o.Half, o.Peak)
	if o.Profile != "" {
		var err error
		if m, err = readMix(o.Profile); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("flashsale: --export: %w", err)
	}
	target := "http://127.0.0.1:8080"
	if len(o.Targets) > 0 {
		target = o.Targets[0]
	}
	profile, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("flashsale: --export: %w", err)
	}
	if err := writeExport(dir, "profile.json", append(profile, '\n')); err != nil {
		return err
	}
	targets, err := m.vegeta(target)
	if err != nil {
		return err
	}
	for i, text := range targets {
		if err := writeExport(dir, vegetaFile(i), text); err != nil {
			return err
		}
	}
	values := struct {
		Mix
		Target string
		Files  []string
	}{Mix: m, Target: target}
	for i := range m.Phases {
		values.Files = append(values.Files, vegetaFile(i))
	}
	for source, name := range map[string]string{"k6.js.tmpl": "sale.js", "EXPORT.md.tmpl": "README.md"} {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, source, values); err != nil {
			return fmt.Errorf("flashsale: --export: %w", err)
		}
		if err := writeExport(dir, name, text.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func vegetaFile(phase int) string { return fmt.Sprintf("vegeta-%d.jsonl", phase+1) }

func writeExport(dir, name string, text []byte) error {
	const readable fs.FileMode = 0o644
	if err := os.WriteFile(filepath.Join(dir, name), text, readable); err != nil {
		return fmt.Errorf("flashsale: --export: %w", err)
	}
	return nil
}

// vegeta returns the requests of each phase as vegeta's JSON targets, one a line, in their order:
// repeats with the key of their first, retries not.
func (m *Mix) vegeta(target string) ([][]byte, error) {
	p := m.profile()
	files := make([][]byte, len(p.Phases))
	n := 0
	var failed error
	openloop.Draw(&p, func(a openloop.Arrival) bool {
		t := struct {
			Method string              `json:"method"`
			URL    string              `json:"url"`
			Body   string              `json:"body,omitempty"` // base64, as encoding/json has []byte
			Header map[string][]string `json:"header"`
		}{Method: p.Kinds[a.Kind].Method, URL: target + a.Path, Header: map[string][]string{"X-User": {a.User}}}
		if a.Body != "" {
			t.Body = base64.StdEncoding.EncodeToString([]byte(a.Body))
			t.Header["Content-Type"] = []string{"application/json"}
		}
		if a.Key != "" {
			t.Header["Idempotency-Key"] = []string{`"` + a.Key + `"`}
		}
		line, err := json.Marshal(t)
		if err != nil {
			failed = err
			return false
		}
		i := p.PhaseAt(a.At)
		files[i] = append(append(files[i], line...), '\n')
		n++
		return n < vegetaMax
	})
	return files, failed
}

package config

import (
	"path/filepath"
	"testing"
)

// TestAccessLog: off unless written, with the defaults of the contract, and paths from the configuration's folder.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	parse := func(document string) (*Config, string) {
		dir := t.TempDir()
		c, err := Parse("t.yaml", []byte("version: 1\n"+document), dir)
		if err != nil {
			t.Fatal(err)
		}
		return c, dir
	}
	for _, off := range []string{"", "log: {}\n"} {
		if c, _ := parse(off); c.Log.Access != nil {
			t.Errorf("%q has the access log %+v", off, c.Log.Access)
		}
	}
	c, _ := parse("log: {access: {}}\n")
	if want := (AccessLog{AccessJSON, Stdout, 100, PrincipalHashed}); c.Log.Access == nil || *c.Log.Access != want {
		t.Errorf("got %+v, want %+v", c.Log.Access, want)
	}
	c, dir := parse("log: {access: {format: text, output: logs/access.log, sample: 12.5%, principal: plain}}\n")
	want := AccessLog{AccessText, filepath.Join(dir, "logs/access.log"), 12.5, PrincipalPlain}
	if *c.Log.Access != want {
		t.Errorf("got %+v, want %+v", c.Log.Access, want)
	}
	for document, want := range map[string]string{
		"log: {access: {format: xml}}":          `2:24: log.access.format: "xml" is not json or text`,
		"log: {access: {sample: 101%}}":         "2:24: log.access.sample: ",
		"log: {access: {sample: 10}}":           "2:24: log.access.sample: ",
		"log: {access: {principal: none}}":      `2:27: log.access.principal: "none" is not hash or plain`,
		"log: {access: {output: \"\"}}":         "2:24: log.access.output: is empty",
		"log: {access: {output: \"a\\u0007\"}}": "2:24: log.access.output: has a control character",
		"log: {access: {file: a}}":              "2:16: log.access.file: ",
		"log: {level: debug}":                   "2:7: log.level: ",
	} {
		faults := faultsOf(t, "version: 1\n"+document+"\n")
		if len(faults) != 1 || len(faults[0]) < len(want) || faults[0][:len(want)] != want {
			t.Errorf("%s: %q, want %q", document, faults, want)
		}
	}
}

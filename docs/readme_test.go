package docs

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/config"
)

var (
	indented = regexp.MustCompile(`(?m)(?:^    .*\n)+`)
	comment  = regexp.MustCompile(` +# .*$`)
	level    = regexp.MustCompile(`(?m)^(#{1,6}) `)
)

// blocks returns the blocks of code of a document, without comments.
func blocks(text string) (list []string) {
	for _, b := range indented.FindAllString(text, -1) {
		var kept []string
		for line := range strings.Lines(b) {
			if line = comment.ReplaceAllString(strings.TrimSpace(line), ""); line != "" {
				kept = append(kept, line)
			}
		}
		list = append(list, strings.Join(kept, "\n"))
	}
	return list
}

func levels(text string) (list []string) {
	for _, m := range level.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

func rows(text string) (n int) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") {
			n++
		}
	}
	return n
}

// The Chinese README has what the English one has: sections, commands, configuration, tables, links.
func TestBothReadmesSayTheSame(t *testing.T) {
	english, chinese := read(t, "README.md"), read(t, "README.zh.md")
	if e, c := levels(english), levels(chinese); strings.Join(e, " ") != strings.Join(c, " ") {
		t.Errorf("sections: %v, in Chinese %v", e, c)
	}
	e, c := blocks(english), blocks(chinese)
	if len(e) < 10 || len(e) != len(c) {
		t.Fatalf("%d blocks of code, in Chinese %d", len(e), len(c))
	}
	for i := 1; i < len(e); i++ { // the first one is a drawing with words
		if e[i] != c[i] {
			t.Errorf("code differs:\n%s\n-- in Chinese:\n%s", e[i], c[i])
		}
	}
	if rows(english) != rows(chinese) {
		t.Errorf("%d rows of tables, in Chinese %d", rows(english), rows(chinese))
	}
	for _, m := range link.FindAllStringSubmatch(english, -1) {
		if m[1] != "README.zh.md" && !strings.Contains(chinese, "]("+m[1]) {
			t.Errorf("the Chinese README has no link to %s", m[1])
		}
	}
}

// The first configuration that a reader sees is one.
func TestTheSmallestConfigurationIsSound(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "README.md"), "## The smallest configuration\n")
	var yaml strings.Builder
	for line := range strings.Lines(strings.TrimLeft(text, "\n")) {
		code, ok := strings.CutPrefix(line, "    ")
		if !ok {
			break
		}
		yaml.WriteString(code)
	}
	cfg, err := config.Parse("README.md", []byte(yaml.String()), t.TempDir())
	if err != nil || len(cfg.Routes) != 2 {
		t.Errorf("%v\n%s", err, yaml.String())
	}
}

package packaging

import (
	"regexp"
	"strings"
	"testing"
)

func TestContainerfile(t *testing.T) {
	t.Parallel()
	const path = "deploy/container/Containerfile"
	if out := run(t, tool(t, "hadolint"), "--failure-threshold=style", root+"/"+path); out != "" {
		t.Errorf("hadolint says:\n%s", out)
	}
	text := read(t, path)
	image := regexp.MustCompile(`golang:(\d+\.\d+)`).FindStringSubmatch(text)
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if image == nil || module == nil || image[1] != module[1] {
		t.Errorf("the image is built with Go %v, and go.mod asks for %v", image, module)
	}
	for _, needs := range []string{"FROM scratch", "USER 65532:65532", "VOLUME /data", "CGO_ENABLED=0", "-trimpath"} {
		if !strings.Contains(text, needs) {
			t.Errorf("%s has no %s", path, needs)
		}
	}
}

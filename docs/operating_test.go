package docs

import (
	"regexp"
	"strings"
	"testing"
)

var (
	heading    = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	ownAnchor  = regexp.MustCompile(`\]\(#([^)]+)\)`)
	fileAnchor = regexp.MustCompile(`\]\(([a-z.]+\.md)#([^)]+)\)`)
	alertRule  = regexp.MustCompile(`(?m)^\s*-?\s*alert: *(\w+)`)
)

// anchorsOf returns the anchors of a document's headings, as GitHub makes them.
func anchorsOf(text string) map[string]bool {
	anchors := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(listing.ReplaceAllString(text, ""), -1) {
		a := strings.ToLower(strings.ReplaceAll(m[1], " ", "-"))
		anchors[regexp.MustCompile("[`,.:'()/?]").ReplaceAllString(a, "")] = true
	}
	return anchors
}

// Whoever is called finds each reason in the guide for operators.
func TestOperatorsKnowEveryReason(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "docs/operating.md"), "## Reasons")
	table, _, _ = strings.Cut(table, "\n## ")
	for reason := range reasonsInCode(t) {
		if !strings.Contains(table, "| `"+reason+"`") && !strings.Contains(table, ", `"+reason+"`") {
			t.Errorf("%s is not among the reasons of docs/operating.md", reason)
		}
	}
}

// What the guide links to within the documents is there.
func TestAnchorsAreThere(t *testing.T) {
	text := read(t, "docs/operating.md")
	own := anchorsOf(text)
	for _, m := range ownAnchor.FindAllStringSubmatch(text, -1) {
		if !own[m[1]] {
			t.Errorf("docs/operating.md links to #%s, which is not there", m[1])
		}
	}
	for _, m := range fileAnchor.FindAllStringSubmatch(text, -1) {
		if !anchorsOf(read(t, "docs/"+m[1]))[m[2]] {
			t.Errorf("docs/operating.md links to %s#%s, which is not there", m[1], m[2])
		}
	}
}

// Each alert has its heading, and no heading stands for an alert that there is not.
func TestAlertsHaveTheirHeadings(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "docs/operating.md"), "\n## Alerts")
	text, _, _ = strings.Cut(text, "\n## ")
	headings := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		headings[m[1]] = true
	}
	if len(headings) < 30 {
		t.Fatalf("%d headings of alerts, which cannot be all", len(headings))
	}
	rules := alertRule.FindAllStringSubmatch(read(t, "deploy/prometheus/alerts.yaml"), -1)
	for _, m := range rules {
		if !headings[m[1]] {
			t.Errorf("docs/operating.md has no heading for the alert %s", m[1])
		}
		delete(headings, m[1])
	}
	for name := range headings {
		t.Errorf("docs/operating.md has a heading for %s, which is no alert", name)
	}
}

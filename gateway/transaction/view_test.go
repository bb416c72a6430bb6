package transaction

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/filters"
)

func TestReasonsAreBoundedAndPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"sold out":                         "sold out",
		"a\r\nSet-Cookie: x\x00\x1b[2Jb":   "a Set-Cookie: x [2Jb",
		"\u202egnp.exe\u2066 \u200bz":      "gnp.exe z",
		"\xff\xfeno text":                  "no text",
		"库存不足":                             "库存不足",
		strings.Repeat("x", 5000):          strings.Repeat("x", 200) + "…",
		strings.Repeat("库", 100):           strings.Repeat("库", 66) + "…",
		strings.Repeat("\x1b", 200) + "xy": "…",
	} {
		if got := printable(text); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestTheReasonOfAServiceIsBounded: whatever a service says, the status stays small and harmless on a terminal.
func TestTheReasonOfAServiceIsBounded(t *testing.T) {
	d := newFixture(t)
	body, err := json.Marshal(map[string]string{"reason": "broke\x1b[31m" + strings.Repeat("!", 3000)})
	if err != nil {
		t.Fatal(err)
	}
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		return 402, string(body), filters.Completed
	}
	g, payload := gid('d'), []byte(strings.Replace(string(bothCalls), `"do":`, `"failOn":[[402,402]],"do":`, 1))
	d.delegate(t, g)
	d.setState(g, "submitted")
	if got := d.branch(t, d.url(t, g, opDo, payload), "action", payload); got != 409 {
		t.Fatalf("status %d", got)
	}
	d.setState(g, "failed", "pay:failed:succeed")
	v, _, err := d.Show(t.Context(), g)
	if err != nil || len(v.Steps) != 1 || !strings.HasPrefix(v.Steps[0].Reason, "status 402: broke [31m!!!") ||
		len(v.Steps[0].Reason) > 250 {
		t.Errorf("%+v, %v", v, err)
	}
}

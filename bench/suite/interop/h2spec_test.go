package interop

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// h2specCases is how many cases h2spec has: generic, http2 and hpack.
const h2specCases = 145

// report is h2spec's JUnit report.
type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Title   string  `xml:"classname,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
			Skipped *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// h2specRuns is how often h2spec runs against each service in each mode: a response that comes
// between a fault and the reset for it fails one run in many.
const h2specRuns = 13

// A service that answers at once, and one that waits for the body, which most cases never send.
func TestH2spec(t *testing.T) {
	t.Parallel()
	respond := func(w http.ResponseWriter) {
		fmt.Fprint(w, strings.Repeat("a response of more than a few bytes\n", 8))
	}
	for name, service := range map[string]http.HandlerFunc{
		"fast": func(w http.ResponseWriter, _ *http.Request) { respond(w) },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				respond(w)
			}
		},
	} {
		g := startGateway(t, oneService(startService(t, service)))
		for _, mode := range []struct {
			name, address string
			flags         []string
		}{
			{"cleartext", g.http, nil},
			{"tls", g.https, []string{"--tls", "--insecure"}},
		} {
			t.Run(name+"/"+mode.name, func(t *testing.T) {
				t.Parallel()
				for range h2specRuns {
					runH2spec(t, mode.address, mode.flags...)
				}
			})
		}
	}
}

func runH2spec(t *testing.T, address string, flags ...string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "h2spec.xml")
	out, passed := run(t, tool(t, "h2spec"), append(flags, "--host", host, "--port", port, "--timeout", "2",
		"--junit-report", file)...)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("h2spec wrote no report: %v\n%s", err, out)
	}
	var r report
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			ran++
			for what, detail := range map[string]*string{"failed": c.Failure, "gave an error": c.Error,
				"was skipped": c.Skipped} {
				if detail != nil {
					t.Errorf("%s %s: %s:\n%s", s.Package, what, c.Title, *detail)
				}
			}
		}
	}
	if ran != h2specCases {
		t.Errorf("h2spec ran %d cases, want %d", ran, h2specCases)
	}
	if !passed && !t.Failed() {
		t.Error("h2spec failed:\n", out)
	}
}

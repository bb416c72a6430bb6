package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"github.com/sluice-gateway/sluice/bench/load/measure"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

func TestMain(m *testing.M) { build.Main(m) }

// TestRun is a real run, as short as it can be: it shows that every figure is there and that
// nothing fails, not what they are.
func TestRun(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), measure.Options{
		Program: build.Sluice(t), Duration: 100 * time.Millisecond, Rounds: 1, Connections: 8, IdleConnections: 20,
		Rate: 200,
		Only: regexp.MustCompile(`^(relay|nginx|haproxy|sluice \+ filters)$`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Others < 0 || report.Others > 1 {
		t.Errorf("others had %v of the machine", report.Others)
	}
	if lines := report.failures(); len(lines) > 0 {
		t.Error(strings.Join(lines, "\n"))
	}
	for _, name := range []string{relay, nginx, haproxy, gatewayFilters} {
		for _, load := range http1 {
			f := report.figure(name, load)
			if f == nil || f.CPUMicros <= 0 || f.PerSecond <= 0 || f.ToNginx == nil || f.ToRelay == nil {
				t.Errorf("%s, %s: %+v", name, load, f)
			} else if name == gatewayFilters && f.Mallocs == nil {
				t.Errorf("%s, %s: no allocations", name, load)
			}
		}
	}
	for _, c := range report.Contenders {
		if c.IdleBytes == nil || c.Latency == nil || c.Latency.Requests != 20 || c.Latency.P50 <= 0 ||
			c.Latency.P999 < c.Latency.P50 {
			t.Errorf("%s: idle %v, latency %+v", c.Name, c.IdleBytes, c.Latency)
		}
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
	if err := report.WriteTable(io.Discard); err != nil {
		t.Error(err)
	}
	if err := report.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
}

// failures are the remarks without the notes: what a gateway does not have yet is no failure.
func (r *Report) failures() []string {
	bare := *r
	bare.Contenders = append([]measure.Result(nil), r.Contenders...)
	for i := range bare.Contenders {
		bare.Contenders[i].Note = ""
	}
	return bare.remarks()
}

func TestRunOfNothing(t *testing.T) {
	t.Parallel()
	o := measure.Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1,
		Rate: 1, Only: regexp.MustCompile("^none$")}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--only") {
		t.Fatalf("%v, want an error that names --only", err)
	}
}

func TestRunWithoutContenders(t *testing.T) {
	t.Parallel()
	o := measure.Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1,
		Rate: 1, Only: regexp.MustCompile("^relay$")}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Fatalf("%v, want an error that names the program", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := measure.Options{Program: "/nowhere", Duration: time.Second, Rounds: 1, Connections: 1, IdleConnections: 1,
		Rate: 1, Only: regexp.MustCompile("^nginx$")}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want %v", err, context.Canceled)
	}
}

func TestHTTP2Loads(t *testing.T) {
	t.Parallel()
	up := startPart(t, "upstream", "http://127.0.0.1:0")
	for _, c := range []struct {
		name, part, scheme string
		load               measure.Load
	}{
		{"GET, service on HTTP/1.1", "reverseproxy", "http", loadH2},
		{"gRPC", "reverseproxy", "h2c", loadGRPC},
		{"GET with TLS", "reverseproxy-tls", "http", loadTLSH2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			part := &measure.Process{Site: measure.Site{Listen: startPart(t, c.part, c.scheme+"://"+up)}}
			l, err := new(measure.Bench).NewDriver(&measure.Run{Process: part}, c.load)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got, err := l.Closed(t.Context(), 20*time.Millisecond)
			if err != nil || got.Errors > 0 || got.Requests < 64 { // of 64 streams each asks once at least
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

package transactions

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/build"
)

func TestMain(m *testing.M) { build.Main(m) }

// TestQuick: the short form runs on every pair of stores that there is, counts exactly, and a saga through the gateway
// costs no more than several times one by hand; how much is for the long form, on a machine that is otherwise idle.
func TestQuick(t *testing.T) {
	t.Parallel()
	found, err := Run(t.Context(), Options{Program: build.Sluice(t), Coordinator: build.Coordinator(t), Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	measured := 0
	for _, p := range found.Pairs {
		if p.Missing != "" {
			t.Logf("%s: %s", p.Name, p.Missing)
			continue
		}
		measured++
		// Where the machine stood still a step is called again, so that these are no exact counts;
		// TestAGoodSagaIsCheap of package transaction has them.
		if p.Queries == nil || *p.Queries > 0.1 || !about(p.Calls, 10) || !about(p.InARow, 7) {
			t.Errorf("%s: queries %v, calls of the store %v, in a row %v; want 0, 10 and 7", p.Name, value(p.Queries),
				value(p.Calls), value(p.InARow))
		}
		for _, c := range p.Cells {
			if c.errors() > 0 {
				t.Errorf("%s, %s: %s%s", p.Name, c.title(), c.Gateway.First, c.ByHand.First)
			}
			if c.CPURatio == nil || *c.CPURatio > 6 {
				t.Errorf("%s, %s: %v times the CPU of by hand", p.Name, c.title(), value(c.CPURatio))
			}
		}
	}
	if measured < 2 {
		t.Errorf("%d pairs of stores were measured, want two at least", measured)
	}
	var text, page bytes.Buffer
	if err := found.WriteTable(&text); err != nil || !strings.Contains(text.String(), "redis/redis: a saga makes") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := found.WriteHTML(&page); err != nil || !strings.Contains(page.String(), "redis/redis") {
		t.Error(err)
	}
	if len(found.Marks) != 2*measured {
		t.Errorf("%d marks, want two of each pair:\n%s", len(found.Marks), text.String())
	}
}

func about(v *float64, want float64) bool { return v != nil && *v >= want && *v < 1.05*want }

func value(v *float64) any {
	if v == nil {
		return "none"
	}
	return *v
}

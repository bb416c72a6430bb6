package transaction

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters"
)

// TestRetryMax: the coordinator, which doubles its delay at 500 and keeps it at 425, never comes to a longer one than
// the transaction allows, however many branches fail in one pass.
func TestRetryMax(t *testing.T) {
	d := newFixture(t)
	d.service = func(string, *filters.Exchange, []byte) (int, string, filters.Outcome) {
		return 500, "", filters.Completed
	}
	g := gid('d')
	d.delegate(t, g)
	payload := []byte(strings.Replace(string(bothCalls), `{`, `{"retryMax":30000,`, 1))
	key, err := d.signingKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	delay := 3 * time.Second
	var seen []time.Duration
	for range 8 { // passes of the coordinator
		next := delay
		for _, step := range []string{"a", "b", "c"} {
			d.setState(g, "submitted")
			d.known[g] = strings.Replace(d.known[g], `"status"`,
				`"next_cron_interval":`+strings.TrimSuffix(delay.String(), "s")+`,"status"`, 1)
			target := branch{g, step, opDo, "01"}.url("http://gateway.test", key, payload)
			switch got := d.branch(t, target, "action", payload); got {
			case 425:
			case 500:
				next *= 2
			default:
				t.Fatalf("status %d", got)
			}
		}
		delay = next
		seen = append(seen, delay)
		if delay > 30*time.Second {
			t.Fatalf("the delay came to %s", delay)
		}
	}
	if delay != 24*time.Second {
		t.Errorf("delays %v, want them to come to 24s", seen)
	}
	if len(d.backoffs.doubled) != 1 {
		t.Errorf("%d entries", len(d.backoffs.doubled))
	}
	if d.unfollow(g); len(d.backoffs.doubled) != 0 {
		t.Error("the entry of a transaction that has ended is kept")
	}
}

// TestADelayThatWasResetDoublesAgain: the coordinator goes back to its first delay when a branch has ended, so the same
// delay comes again in a later pass.
func TestADelayThatWasResetDoublesAgain(t *testing.T) {
	var b backoffs
	c := branchCall{branch: branch{gid: gid('d')}, env: &envelope{RetryMax: 30_000}, retryDelay: 3 * time.Second}
	now := time.Unix(1_700_000_000, 0)
	for _, pass := range []time.Duration{0, 3 * time.Second} {
		if !b.double(&c, now.Add(pass)) {
			t.Errorf("the pass at %s does not double the delay", pass)
		}
		if b.double(&c, now.Add(pass+time.Second)) {
			t.Errorf("the pass at %s doubles it twice", pass)
		}
	}
}

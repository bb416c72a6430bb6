package integration_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// signedCall is a branch call as anybody finds it who can read the coordinator's data.
type signedCall struct {
	URL      string `json:"url"`
	Payload  []byte `json:"bin_data"`
	BranchID string `json:"branch_id"`
	Op       string `json:"op"`
}

// signedCalls reads the calls of a transaction from the coordinator.
func (c *checkouts) signedCalls(gid string) []signedCall {
	c.Helper()
	a := send(c.Context(), http.MethodGet, c.coordinator.URL+"/api/dtmsvr/query?gid="+gid, "")
	var known struct{ Branches []signedCall }
	if err := json.Unmarshal([]byte(a.body), &known); err != nil || len(known.Branches) != 2*len(shop.Names) {
		c.Fatalf("the coordinator knows %v: %v", a, err)
	}
	return known.Branches
}

// replay makes a call again, as the coordinator would.
func (c *checkouts) replay(gid string, call signedCall) response {
	return send(c.Context(), http.MethodPost, call.URL+"?gid="+gid+"&trans_type=saga&branch_id="+call.BranchID+
		"&op="+call.Op, string(call.Payload))
}

// TestReplayedBranchCallsChangeNothing: every signed call of a transaction that has ended, or that does not run or roll
// back any more, leaves the services as they are. A call that was made has its recorded response, as for a coordinator
// whose response was lost.
func TestReplayedBranchCallsChangeNothing(t *testing.T) {
	t.Parallel()
	c := startCheckouts(t)
	bought := c.buy(t.Context(), "ann", "key-1")
	c.wantEnd(bought, "ann", "key-1")
	undone := c.buy(t.Context(), "broke", "key-2")
	c.wantEnd(undone, "broke", "key-2")

	stock := c.stock()
	replayAll := func(gid string, want map[string]string) {
		t.Helper()
		for _, call := range c.signedCalls(gid) {
			step := strings.Split(call.URL, "/")[5]
			if status := c.replay(gid, call).status; status != http.StatusConflict &&
				(status != http.StatusOK || !strings.Contains(want[call.Op], step)) {
				t.Errorf("%s of %s: %d", call.Op, step, status)
			}
		}
	}
	replayAll(bought.member("id"), map[string]string{"action": "reserve order pay reward ship"})
	replayAll(undone.member("id"), map[string]string{"action": "reserve order", "compensate": "reserve order pay"})
	c.wantLedgers(1, 1)
	if got := c.stock(); got != stock {
		t.Errorf("the stock went from %s to %s", stock, got)
	}
	if got := c.status("ann", bought.member("id")); got.member("state") != "succeeded" {
		t.Errorf("the state is %v", got)
	}

	// While it runs: no undo. A payment that hangs keeps it under way.
	c.shop.Fault(t, "payment", `{"hang": true}`)
	running := make(chan response, 1)
	go func() { running <- c.buy(t.Context(), "eve", "key-3") }()
	gid := ""
	harness.Until(t, requestLimit, "it is under way", func() bool {
		var known struct {
			Transactions []struct{ GID, Status string }
		}
		a := send(t.Context(), http.MethodGet, c.coordinator.URL+"/api/dtmsvr/all?status=submitted&limit=10", "")
		if json.Unmarshal([]byte(a.body), &known) == nil && len(known.Transactions) == 1 {
			gid = known.Transactions[0].GID
		}
		return gid != "" && c.arrivals() > 2
	})
	stock = c.stock()
	for _, call := range c.signedCalls(gid) {
		if call.Op == "compensate" {
			if got := c.replay(gid, call); got.status != http.StatusConflict {
				t.Errorf("an undo while it runs: %v", got)
			}
		}
	}
	if got := c.stock(); got != stock {
		t.Errorf("while it runs the stock went from %s to %s", stock, got)
	}
	calls := c.signedCalls(gid)
	c.coordinator.Kill() // the state is not known: nothing is done, and the call may come again
	for _, call := range calls {
		if call.Op == "compensate" {
			if got := c.replay(gid, call); got.status != http.StatusTooEarly {
				t.Errorf("an undo while the coordinator is away: %v", got)
			}
		}
	}
	c.coordinator.Restart()
	c.shop.Heal(t, "payment")
	a, ended := c.buyToTheEnd("eve", "key-3")
	if !ended {
		t.Fatalf("not at its end: %v", a)
	}
	<-running
	c.wantEnd(a, "eve", "key-3")
	c.wantLedgers(2, 1)
}

// stock returns what the service says of the item that is sold.
func (c *checkouts) stock() string {
	c.Helper()
	a := send(c.Context(), http.MethodGet, c.shop.URL("stock")+"/v1/stock/SKU-1", "")
	if a.status != http.StatusOK {
		c.Fatalf("the stock is not read: %v", a)
	}
	return a.body
}

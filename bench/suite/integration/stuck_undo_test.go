package integration_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
)

// tryTransactions runs a command on the transactions of the gateway.
func (c *checkouts) tryTransactions(args ...string) (stdout, stderr string, code int) {
	c.Helper()
	return sluice(c.T, append([]string{"transactions", "-o", "json", "--admin",
		strings.TrimPrefix(c.gateway.AdminURL, "http://")},
		args...)...)
}

// transactions is tryTransactions of a command that is to succeed.
func (c *checkouts) transactions(args ...string) (stdout string) {
	c.Helper()
	stdout, stderr, code := c.tryTransactions(args...)
	if code != 0 {
		c.Fatalf("sluice %v: exit %d, %s", args, code, stderr)
	}
	return stdout
}

// TestAnUndoDoesNotWaitForOneBesideIt: steps that do not come after one another are undone at the same time, so that
// one whose undo is never done holds up no other.
func TestAnUndoDoesNotWaitForOneBesideIt(t *testing.T) {
	t.Parallel()
	c := startCheckoutsWith(t, strings.NewReplacer("- name: order\n", "- name: order\n        after: []\n",
		"- name: pay\n", "- name: pay\n        after: [reserve, order]\n").Replace(checkoutConfig))
	stock := c.stock()
	c.shop.Fault(t, "order", `{"errorStatus": 404, "path": "/v1/orders/"}`) // its undo, and not its do
	a := c.buy(t.Context(), "broke", "key-1")
	harness.Until(t, settleLimit, "the undo of the order is called in vain", func() bool {
		shown, _, code := c.tryTransactions("show", a.member("id"))
		return code == 0 && strings.Contains(shown, "in vain")
	})
	if now := c.stock(); now != stock {
		t.Errorf("%v in stock, want %v: the undo of the reservation waits for that of the order", now, stock)
	}
}

// TestAnUndoThatIsRefusedForEverIsResolved: an undo that has 404 each time holds up the undos before it. It is shown,
// an operator resolves it, and the transaction ends.
func TestAnUndoThatIsRefusedForEverIsResolved(t *testing.T) {
	t.Parallel()
	c := startCheckoutsWith(t, strings.Replace(checkoutConfig, "retry: {every: 1s}", "retry: {every: 1s, max: 1s}", 1))
	stock := c.stock()
	c.shop.Fault(t, "order", `{"errorStatus": 404, "path": "/v1/orders/"}`) // its undo, and not its do
	first := make(chan response, 1)
	go func() { first <- c.buy(t.Context(), "broke", "key-1") }()

	const stuck = `sluice_transaction_stuck{step="order",transaction="checkout"}`
	harness.Until(t, settleLimit, "the undo counts as stuck", func() bool {
		a := send(t.Context(), http.MethodGet, c.gateway.AdminURL+"/metrics", "")
		return strings.Contains(a.body, stuck+" 1\n")
	})
	if a := <-first; a.status != http.StatusAccepted || a.member("state") != "compensating" {
		t.Errorf("the client: %v, want 202 and that it is rolled back", a)
	}
	var listed struct{ Transactions []struct{ ID, State string } }
	if err := json.Unmarshal([]byte(c.transactions("list", "--state", "compensating")), &listed); err != nil ||
		len(listed.Transactions) != 1 {
		t.Fatalf("list: %v, %v", listed, err)
	}
	id := listed.Transactions[0].ID
	var shown struct {
		Steps []struct{ Name, State, Reason string }
	}
	if err := json.Unmarshal([]byte(c.transactions("show", id)), &shown); err != nil || len(shown.Steps) < 2 ||
		shown.Steps[1].Name != "order" || shown.Steps[1].State != "compensating" ||
		!strings.HasSuffix(shown.Steps[1].Reason, "times in vain, the last one with status 404") {
		t.Errorf("show: %+v, %v", shown, err)
	}
	if now := c.stock(); now == stock {
		t.Error("the step before it is undone already: nothing is held up")
	}

	c.coordinator.Kill() // nobody can say how it stands: nothing is settled, and no list looks empty
	for _, args := range [][]string{
		{"list", "--state", "compensating"}, {"resolve", id, "--step", "order", "--as", "done"},
	} {
		stdout, stderr, code := c.tryTransactions(args...)
		if code == 0 || !strings.Contains(stderr, "the coordinator") {
			t.Errorf("%v without the coordinator: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	c.coordinator.Restart()

	c.transactions("resolve", id, "--step", "order", "--as", "done")
	a, ended := c.buyToTheEnd("broke", "key-1")
	if !ended {
		t.Fatalf("it is resolved, and not at its end within %v: %v", settleLimit, a)
	}
	c.wantEnd(a, "broke", "key-1")
	if now := c.stock(); now != stock {
		t.Errorf("the stock is %s, want %s as before", now, stock)
	}
	if n := metric(t, c.gateway, stuck); n != 0 {
		t.Errorf("%v are stuck after the end", n)
	}
	c.transactions("retry") // there is nothing to retry, and that is no fault
}

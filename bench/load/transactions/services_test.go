package transactions

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/sqltest"
)

// TestLedgerIsExecutedOnce: the services that do SQL make their statements once a branch, within the barrier.
func TestLedgerIsExecutedOnce(t *testing.T) {
	t.Parallel()
	server := sqltest.MariaDB(t)
	db, err := openAccounts(t.Context(), server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := httptest.NewServer(&ledger{db, 3})
	defer s.Close()
	for range 2 {
		resp, err := http.Post(s.URL+"/reserve/do?gid=g00000000001&trans_type=saga&branch_id=01&op=action",
			"application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	var sum int
	if err := db.QueryRow("SELECT SUM(balance) FROM account").Scan(&sum); err != nil || sum != 3 {
		t.Errorf("%d updates, %v, want 3", sum, err)
	}
	if ids := fmt.Sprint((&ledger{nil, 4}).accountsOf("a")); ids != fmt.Sprint((&ledger{nil, 4}).accountsOf("a")) {
		t.Error("the accounts of a branch differ")
	}
}

package shop

import (
	"context"
	"strings"
	"testing"
)

// step is one call of a branch of a gid.
type step struct {
	service, path, body string
	gid, branch, op     string
	key                 string // other than the branch's own
}

func (st step) send(t *testing.T, s *Shop) {
	t.Helper()
	key := st.gid + "-" + st.branch + "-" + st.op
	if st.key != "" {
		key = st.key
	}
	var header []string
	url := s.URL(st.service) + st.path
	if st.op != "" {
		url += "?trans_type=saga&gid=" + st.gid + "&branch_id=" + st.branch + "&op=" + st.op
		header = []string{"Idempotency-Key", key, "Sluice-Attempt", "1"}
	}
	if status, a := send(t, "POST", url, st.body, header...); status != 200 && status != 201 {
		t.Fatalf("%+v: %d %v", st, status, a)
	}
}

func reserve(gid string) step {
	return step{"stock", "/v1/reservations", `{"id":"` + gid + `","sku":"SKU-1","qty":2}`, gid, "01", "action", ""}
}
func release(gid string) step {
	return step{"stock", "/v1/reservations/" + gid + "/release", "{}", gid, "01", "compensate", ""}
}
func order(gid string) step {
	return step{"order", "/v1/orders", `{"id":"` + gid + `","user":"ada","sku":"SKU-1","qty":2}`, gid, "02", "action",
		""}
}
func cancel(gid string) step {
	return step{"order", "/v1/orders/" + gid + "/cancel", "{}", gid, "02", "compensate", ""}
}
func pay(gid string) step {
	return step{"payment", "/v1/payments", `{"id":"` + gid + `","user":"ada","amount":500}`, gid, "03", "action", ""}
}
func refund(gid string) step {
	return step{"payment", "/v1/payments/" + gid + "/refund", "{}", gid, "03", "compensate", ""}
}
func ship(gid string) step {
	return step{"shipping", "/v1/shipments", `{"id":"` + gid + `"}`, gid, "04", "action", ""}
}

const intoLedger = "INSERT INTO ledger (id, kind, user, sku, amount, at, key, attempt, gid) "

func TestAudit(t *testing.T) {
	t.Parallel()
	const a, b = "gid00000000a", "gid00000000b"
	direct := step{service: "order", path: "/v1/orders", body: `{"user":"ada","sku":"SKU-1","qty":1}`}
	for _, c := range []struct {
		name  string
		naive bool
		steps []step
		plant string // SQL at the stock service
		off   []string
		want  Report
	}{
		{"nothing", false, nil, "", nil, Report{}},
		{"sold", false, []step{reserve(a), order(a), pay(a), ship(a)}, "", nil, Report{Sold: 1}},
		{"undone", false, []step{reserve(a), order(a), cancel(a), release(a)}, "", nil, Report{Undone: 1}},
		{"undone late", false,
			[]step{reserve(a), order(a), pay(a), refund(a), cancel(a), release(a), reserve(b), order(b),
				pay(b)}, "", nil, Report{Undone: 1, Sold: 1}},
		{"direct order", false, []step{direct}, "", nil, Report{Single: 1}},
		{"lost reservation", false, []step{reserve(a)}, "", []string{a + " has 2 units reserved and 0 ordered"},
			Report{Undone: 1}},
		{"not reserved", false, []step{order(a), pay(a)}, "", []string{a + " has 0 units reserved and 2 ordered"},
			Report{Sold: 1}},
		{"not paid", false, []step{reserve(a), order(a)}, "", []string{a + " is ordered and not paid"},
			Report{Sold: 1}},
		{"kept the money", false, []step{reserve(a), order(a), pay(a), cancel(a), release(a)}, "",
			[]string{a + " is paid (500) and not ordered"}, Report{Undone: 1}},
		{"shipped what is cancelled", false,
			[]step{reserve(a), order(a), pay(a), ship(a), refund(a), cancel(a), release(a)}, "",
			[]string{a + " has 1 at shipping and is not ordered"}, Report{Undone: 1}},
		{"executed twice", false, []step{reserve(a), order(a), pay(a)},
			intoLedger + "SELECT id, kind, user, sku, amount, at, key, attempt, gid FROM ledger",
			[]string{"SKU-1 lacks 2 units on the shelf, the ledger says 4", a + " has 4 units reserved and 2 ordered",
				a + " was reserved 2 times",
				"stock executed key " + a + "-01-action 2 times"}, Report{Sold: 1}},
		{"oversold", false, nil,
			intoLedger + "VALUES ('x', 'reserved', '', 'SKU-2', 6, 0, '', 0, '')",
			[]string{"SKU-2 is oversold: 6 of 5 reserved",
				"SKU-2 lacks 0 units on the shelf, the ledger says 6"}, Report{Single: 1}},
		{"shelf", false, nil, "UPDATE stock SET available = 4 WHERE sku = 'SKU-2'",
			[]string{"SKU-2 lacks 1 units on the shelf, the ledger says 0"}, Report{}},
		{"given back twice", false, []step{reserve(a), order(a), pay(a)},
			intoLedger + "VALUES ('gid00000000a', 'released', '', 'SKU-1', 3, 0, '', 0, '')",
			[]string{"SKU-1 lacks 2 units on the shelf, the ledger says -1",
				a + " gave back more than it took at stock: -1", a + " has -1 units reserved and 2 ordered"},
			Report{Sold: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Options{Naive: c.naive})
			for _, st := range c.steps {
				st.send(t, s)
			}
			if c.plant != "" {
				if _, err := s.services[0].write.Exec(c.plant); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Audit(context.Background(), s.Addresses())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got.Off, "\n") != strings.Join(c.off, "\n") || got.Balanced != (c.off == nil) {
				t.Errorf("off:\n%s\nwant:\n%s", strings.Join(got.Off, "\n"), strings.Join(c.off, "\n"))
			}
			if got.Sold != c.want.Sold || got.Undone != c.want.Undone || got.Single != c.want.Single {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestAuditNeedsEveryService(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	addresses := map[string]string{}
	for name, a := range s.Addresses() {
		addresses[name] = a
	}
	addresses["points"] = "127.0.0.1:1"
	if _, err := Audit(context.Background(), addresses); err == nil {
		t.Error("no error without the points service")
	}
}

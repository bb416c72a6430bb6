//go:build !race

package examples_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/shop"
)

var examples = []example{
	{name: "checkout", file: "checkout.yaml", place: checkOut, audit: auditCheckouts},
	{name: "payment-callback", file: "payment-callback.yaml", place: payForOrder, audit: auditPayments},
	{name: "rebate-tcc", file: "rebate-tcc.yaml", mariadb: true, place: grantRebate, holds: []string{"7101", "7102"},
		audit: auditHolds},
	{name: "rebate-message", file: "rebate-message.yaml", place: grantRebate, holds: []string{"7102", "7101"},
		audit: auditHolds},
	{name: "school-tcc", file: "school-tcc.yaml", place: gradeHomework, holds: []string{"7201", "7202"},
		audit: auditHolds},
	{name: "payment-success", file: "payment-success.yaml", place: tellOfPayment, audit: auditSuccesses},
	{name: "transfer-xa", file: "transfer-xa.yaml", place: moveMoney, audit: auditTransfers},
	{name: "rebate-manager", file: "rebate-manager.yaml", mariadb: true, place: grantRebate,
		holds: []string{"7101", "7102"}, audit: auditHolds},
}

// one in a few orders is to be refused.
func oneIn(random *rand.Rand, n int) bool { return random.IntN(n) == 0 }

func checkOut(l *load, random *rand.Rand, key string) {
	o := order{path: "/v1/checkouts", user: "ann", key: key, refuse: oneIn(random, 4)}
	if o.refuse {
		o.user = "broke"
	}
	o.body = fmt.Sprintf(`{"sku":"SKU-1","qty":1,"amount":%d}`, 100+random.IntN(900))
	l.send(o)
}

// auditCheckouts: what the clients were told they have bought is what the five services have, once.
func auditCheckouts(r *running, ends []end) {
	r.world.Helper()
	addresses := map[string]string{}
	for i, name := range shop.Names {
		addresses[name] = r.at[fmt.Sprint(7001+i)]
	}
	report, err := shop.Audit(r.world.Context(), addresses)
	if err != nil {
		r.world.Fatal(err)
	}
	want := 1 // by what the header says to try
	for _, e := range ends {
		if e.succeeded {
			want++
		}
	}
	if !report.Balanced || report.Sold != want {
		r.world.Errorf("%v; want %d sold", report, want)
	}
}

// read reads a list that a service has.
func read[T any](r *running, port, path string) (v T) {
	r.world.Helper()
	status, body, err := get(r.world.Context(), r.url(port, path))
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal([]byte(body), &v)
	}
	if err != nil || status != http.StatusOK {
		r.world.Fatalf("%s: %d, %v: %s", path, status, err, body)
	}
	return v
}

// What a payment callback has to do with its order.
const (
	orderFirst    = iota // placed, then paid
	callbackFirst        // paid, then placed
	tooLate              // placed, cancelled, then paid
	silent               // the callback never comes
	histories
)

// payForOrder makes an order and pays for it, in one of the orders of events. What it notes ended when the last request
// was answered; the callbacks are still on their way then.
func payForOrder(l *load, random *rand.Rand, key string) {
	history := random.IntN(histories)
	no, body := fmt.Sprintf("%s-%d", key, history), `{"order_no":"%s","amount":900}`
	place := order{path: "/v1/orders", body: fmt.Sprintf(body, no), user: "ann", key: key}
	pay := func() { l.charge(no, history == silent) }
	switch history {
	case callbackFirst:
		pay()
		l.send(place)
		return
	case tooLate:
		l.send(place)
		l.send(order{path: "/v1/orders/" + no + "/cancel", user: "ann", body: "{}", key: key + "-cancel"})
	default:
		l.send(place)
	}
	pay()
}

// charge has a buyer pay at the provider, which is called until it has heard it.
func (l *load) charge(no string, silent bool) {
	body := fmt.Sprintf(`{"order_no":"%s","amount":900,"silent":%t}`, no, silent)
	for l.ctx.Err() == nil {
		status, _, err := roundTrip(l.ctx, http.MethodPost, l.url("7302", "/v1/charges"), body, "Idempotency-Key", no)
		if err == nil && status == http.StatusOK {
			return
		}
		pause(l.ctx, ordersPause)
	}
}

// reconciliation is the report of the order service.
type reconciliation struct {
	Checked int
	Mended  []struct {
		OrderNo string `json:"order_no"`
		Was     string
		Now     string
		Why     string
	}
	Unknown []string `json:"unknown_orders"`
	Unpaid  []string `json:"without_payments"`
}

var callbackReplayed = regexp.MustCompile(`sluice_idempotency_replays_total\{route="callback"\} [1-9]`)

// auditPayments: with all callbacks delivered and one reconciliation no order that was paid for is unpaid, and the
// report names each that was mended, and why.
func auditPayments(r *running, ends []end) {
	w := r.world
	w.Helper()
	harness.Until(w, finalLimit, "the provider has delivered its callbacks", func() bool {
		return len(read[[]string](r, "7302", "/v1/outbox")) == 0
	})
	_, statement, err := get(w.Context(), r.url("7302", "/v1/statement"))
	if err != nil {
		w.Fatal(err)
	}
	status, body, err := roundTrip(w.Context(), http.MethodPost, r.url("8080", "/v1/reconciliations"), statement,
		"X-User", "ops")
	var report reconciliation
	if err == nil {
		err = json.Unmarshal([]byte(body), &report)
	}
	if err != nil || status != http.StatusOK {
		w.Fatalf("the reconciliation: %d, %v: %s", status, err, body)
	}
	why := map[string]string{}
	for _, m := range report.Mended {
		if why[m.OrderNo] != "" {
			w.Errorf("%s was mended twice: %s and %s", m.OrderNo, why[m.OrderNo], m.Why)
		}
		why[m.OrderNo] = m.Why
	}
	states := map[string]string{}
	for _, o := range read[[]struct {
		OrderNo string `json:"order_no"`
		State   string
	}](r, "8080", "/v1/orders") {
		states[o.OrderNo] = o.State
	}
	if len(report.Unknown)+len(report.Unpaid) > 0 {
		w.Errorf("the report: payments without an order %v, orders without a payment %v", report.Unknown, report.Unpaid)
	}
	placed := 0
	for _, e := range ends {
		if e.path == "/v1/orders" && e.ended {
			placed++
			judgePayment(w, e.body, states, why)
		}
	}
	_, metrics, err := get(w.Context(), r.url("9901", "/metrics"))
	if err != nil || !callbackReplayed.MatchString(metrics) {
		w.Errorf("no callback was replayed by the gateway, and each comes twice: %v\n%s", err, metrics)
	}
	if want := placed + 2; report.Checked != want { // and those that the header says to try
		w.Errorf("the report has %d payments, want %d", report.Checked, want)
	}
}

// judgePayment says what is wrong with one order.
func judgePayment(w *world, placed string, states, why map[string]string) {
	w.Helper()
	var o struct {
		OrderNo string `json:"order_no"`
	}
	if err := json.Unmarshal([]byte(placed), &o); err != nil {
		w.Fatal(err)
	}
	want, mended := "paid", []string{""}
	switch no := o.OrderNo; no[len(no)-1] - '0' {
	case callbackFirst: // the order may have been faster after all
		mended = []string{"", "callback-before-order"}
	case tooLate:
		want, mended = "refund-due", []string{"paid-after-cancel"}
	case silent:
		mended = []string{"callback-missing"}
	}
	if states[o.OrderNo] != want || !slices.Contains(mended, why[o.OrderNo]) {
		w.Errorf("%s is %q and mended for %q, want %q and one of %q", o.OrderNo, states[o.OrderNo], why[o.OrderNo],
			want, mended)
	}
}

// grantRebate asks for a rebate; some ask for more than one may be.
func grantRebate(l *load, random *rand.Rand, key string) {
	o := order{path: "/v1/rebates", user: "ann", key: key, refuse: oneIn(random, 4)}
	amount := 1 + random.IntN(900)
	if o.refuse {
		amount = 500_000
	}
	o.body = fmt.Sprintf(`{"sku":"SKU-%d","qty":%d,"account":"acme","amount":%d}`, random.IntN(3), 1+random.IntN(3),
		amount)
	l.send(o)
}

// What the services of deploy/examples/services/resource.go tell.
type (
	hold struct {
		ID, Item, State string
		Amount          int64
	}
	balance struct {
		Item               string
		Free, Held, Booked int64
	}
	move struct{ ID, Kind string }
)

// book is what one service has by the id of a transaction.
type book map[string]hold

// wantNothingHeld: of what a client was told is at its end nothing is held.
func (r *running) wantNothingHeld(ends []end) {
	r.world.Helper()
	told := map[string]end{}
	for _, e := range ends {
		if e.ended {
			told[e.gid] = e
		}
	}
	for _, port := range r.holds {
		for _, h := range read[[]hold](r, port, "/v1/holds") {
			if _, ended := told[h.ID]; ended && h.State == "held" {
				r.world.Errorf("%s: %s: %+v is held; %s", r.name, port, h, r.explain(h.ID))
			}
		}
	}
}

// auditHolds: of each order that succeeded every service has booked its part, once; of the others none has. Nothing is
// held, and nothing came into being or got lost.
func auditHolds(r *running, ends []end) {
	r.world.Helper()
	first := readBook(r, r.holds[0])
	for _, e := range ends {
		if e.ended && e.gid == "" {
			r.world.Errorf("%s ended without an id: %s", e.key, e.said)
		}
		if h := first[e.gid]; e.succeeded != (h.State == "booked") {
			r.world.Errorf("%s (%t): the service has %+v; %s", e.key, e.succeeded, h, r.explain(e.gid))
		}
	}
	for _, port := range r.holds[1:] { // also of what no client was told
		other := readBook(r, port)
		for id := range first {
			if a, b := first[id], other[id]; (a.State == "booked") != (b.State == "booked") {
				r.world.Errorf("%s has %+v and %s has %+v; %s", r.holds[0], a, port, b, r.explain(id))
			}
		}
		for id, h := range other {
			if h.State == "booked" && first[id].State != "booked" {
				r.world.Errorf("%s alone has %+v; %s", port, h, r.explain(id))
			}
		}
	}
}

// explain is what is known of a transaction, for a message: what its client was told, and what the coordinator has.
func (r *running) explain(gid string) string {
	text := "no client was told of it"
	for _, e := range r.load.ends {
		if e.gid == gid {
			text = fmt.Sprintf("its client was told: %s", e.said)
		}
	}
	_, body, err := get(r.world.Context(), "http://"+r.world.shared[coordinatorPort]+"/api/dtmsvr/query?gid="+gid)
	return fmt.Sprint(text, "; the coordinator has ", body, err)
}

// readBook reads and judges the books of one service.
func readBook(r *running, port string) book {
	r.world.Helper()
	b, booked := book{}, map[string]int64{}
	for _, h := range read[[]hold](r, port, "/v1/holds") {
		if b[h.ID] = h; h.State == "held" {
			r.world.Errorf("%s: %+v is still held; %s", port, h, r.explain(h.ID))
		}
		if h.State == "booked" {
			booked[h.Item] += h.Amount
		}
	}
	free := map[string]int64{}
	for _, one := range read[[]balance](r, port, "/v1/balances") {
		if one.Held != 0 || one.Booked != booked[one.Item] {
			r.world.Errorf("%s: %+v, but %d are booked", port, one, booked[one.Item])
		}
		free[one.Item] = one.Free + one.Held + one.Booked
	}
	kinds := map[string]string{}
	for _, m := range read[[]move](r, port, "/v1/moves") {
		if strings.Contains(kinds[m.ID], m.Kind) || m.Kind == "booked" && strings.Contains(kinds[m.ID], "givenback") {
			r.world.Errorf("%s: %s was %s after %s", port, m.ID, m.Kind, kinds[m.ID])
		}
		kinds[m.ID] += m.Kind + " "
	}
	return b
}

// gradeHomework grades a new homework; some get more points than there are.
func gradeHomework(l *load, random *rand.Rand, key string) {
	o := order{path: "/v1/gradings", user: "teacher", key: key, refuse: oneIn(random, 4)}
	points := 1 + random.IntN(100)
	if o.refuse {
		points = 101
	}
	o.body = fmt.Sprintf(`{"homework":"hw-%s","student":"s-%d","points":%d}`, key, random.IntN(3), points)
	l.send(o)
}

// tellOfPayment is the provider's word that it was paid.
func tellOfPayment(l *load, random *rand.Rand, key string) {
	l.send(order{path: "/v1/payments/succeeded", user: "acme-pay", key: key,
		body: fmt.Sprintf(`{"payment_no":"%s","user":"u-%d","amount":%d}`, key, random.IntN(3), 100+random.IntN(900))})
}

// auditSuccesses: each payment gave points, a parcel and a notification, once.
func auditSuccesses(r *running, ends []end) {
	w := r.world
	w.Helper()
	notified := readBook(r, "7006")
	kinds := map[string]string{"7004": "granted", "7005": "shipped"}
	effects := map[string]map[string]int{}
	for port, kind := range kinds {
		effects[port] = map[string]int{}
		for _, e := range read[shop.Ledger](r, port, "/ledger").Entries {
			if e.Kind != kind {
				w.Errorf("%s: %+v", port, e)
			}
			effects[port][e.ID]++
		}
	}
	succeeded := 1 // by what the header says to try
	for _, e := range ends {
		want := 0 // a message that never reached the coordinator has failed, and nothing of it is done
		if e.succeeded {
			want = 1
			succeeded++
		}
		if (notified[e.gid].State == "booked") != e.succeeded {
			w.Errorf("%s: %s; notification %+v", e.key, e.said, notified[e.gid])
		}
		for port := range kinds {
			if n := effects[port][e.gid]; n != want {
				w.Errorf("%s: %s was done %d times at %s, want %d: %s", e.key, e.gid, n, port, want, e.said)
			}
		}
	}
	for port := range kinds {
		if len(effects[port]) != succeeded {
			w.Errorf("%s has %d, want %d", port, len(effects[port]), succeeded)
		}
	}
}

// moveMoney transfers an amount from one bank to the other; some go to an account that is not there.
func moveMoney(l *load, random *rand.Rand, key string) {
	o := order{path: "/v1/transfers", user: "ann", key: key, refuse: oneIn(random, 4)}
	to := fmt.Sprintf("acc-%d", random.IntN(20))
	if o.refuse {
		to = "nobody"
	}
	o.body = fmt.Sprintf(`{"from":"acc-%d","to":"%s","amount":%d}`, random.IntN(20), to, 1+random.IntN(100))
	l.send(o)
}

// entry is a line in a bank's books, or what is in an account.
type entry struct {
	ID, Account string
	Amount      int64
}

// auditTransfers: what left the one bank is in the other, for each transfer that succeeded and for no other, and no
// branch is left prepared in the database.
func auditTransfers(r *running, ends []end) {
	w := r.world
	w.Helper()
	const banks, accounts, opening = 2, 20, 100_000
	total := int64(0)
	books := map[string]map[string]int64{}
	for _, port := range []string{"7501", "7502"} {
		books[port] = map[string]int64{}
		for _, a := range read[[]entry](r, port, "/v1/accounts") {
			total += a.Amount
		}
		for _, e := range read[[]entry](r, port, "/v1/entries") {
			if books[port][e.ID] != 0 {
				w.Errorf("%s: %s is booked twice", port, e.ID)
			}
			books[port][e.ID] = e.Amount
		}
	}
	if total != banks*accounts*opening {
		w.Errorf("there is %d of money, want %d", total, banks*accounts*opening)
	}
	succeeded := 1 // by what the header says to try
	for _, e := range ends {
		left, came := books["7501"][e.gid], books["7502"][e.gid]
		if e.succeeded {
			succeeded++
		}
		if e.succeeded != (left < 0) || left != -came {
			w.Errorf("%s (%t): %d and %d are booked: %s", e.key, e.succeeded, left, came, e.said)
		}
	}
	for port, b := range books {
		if len(b) != succeeded {
			w.Errorf("%s has %d entries, want %d", port, len(b), succeeded)
		}
	}
	rows, err := w.mariadb.Open(w).Query("XA RECOVER")
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		w.Error("a branch is still prepared: XA RECOVER")
	}
	if err := rows.Err(); err != nil {
		w.Error(err)
	}
}

package participant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
)

// openDatabase stands for the service's own sql.Open, with the driver that the service has chosen.
func openDatabase() *sql.DB { return nil }

// A service whose handler makes an order in the transaction that also records the request: a
// repeated request gets the first response, and makes no second order.
func Example() {
	db := openDatabase()
	if err := participant.Setup(context.Background(), db, participant.Postgres); err != nil {
		log.Fatal(err)
	}
	guard := &participant.Guard{DB: db, Dialect: participant.Postgres}

	createOrder := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tx := participant.Tx(r.Context())
		_, err := tx.ExecContext(r.Context(), "INSERT INTO orders (sku) VALUES ($1)", r.FormValue("sku"))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError) // all is rolled back
			return
		}
		w.WriteHeader(http.StatusCreated) // sent after the commit
	})
	mux := http.NewServeMux()
	mux.Handle("POST /v1/orders", guard.Middleware(createOrder))
	mux.Handle("GET /v1/orders/by-key/{key}", guard.ProbeHandler()) // for routes with onUnknown: probe

	go func() { // rows may go when the route's ttl is long over
		for range time.Tick(time.Hour) {
			if _, err := guard.Forget(context.Background(), time.Now().Add(-7*24*time.Hour)); err != nil {
				log.Print(err)
			}
		}
	}()
	log.Fatal(http.ListenAndServe("127.0.0.1:7001", mux))
}

// The same without a handler: the effect of a message, say, that may be delivered twice.
func ExampleGuard_Do() {
	guard := &participant.Guard{DB: openDatabase(), Dialect: participant.MySQL}
	key := participant.Key{Value: "message-17", Attempt: 1}
	response, err := guard.Do(context.Background(), key, func(tx *sql.Tx) (participant.Response, error) {
		if _, err := tx.Exec("UPDATE account SET balance = balance - 5 WHERE id = 3"); err != nil {
			return participant.Response{}, err
		}
		return participant.JSON(http.StatusOK, map[string]int{"paid": 5}), nil
	})
	switch {
	case participant.NothingDone(err):
		log.Print("nothing was done, the message may be delivered again: ", err)
	case err != nil:
		log.Print("not known; asking again with the same key finds out: ", err)
	case response.Replayed:
		log.Print("it was paid before")
	}
}

// A step of a global transaction whose service does without handlers of the guard: the barrier
// alone.
func ExampleBarrier_Call() {
	db := openDatabase()
	release := func(w http.ResponseWriter, r *http.Request) {
		branch, ok, err := participant.FromRequest(r)
		if err != nil || !ok {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		branch.Dialect = participant.Postgres
		result, err := branch.Call(r.Context(), db, func(tx *sql.Tx) error {
			_, err := tx.Exec("UPDATE stock SET available = available + 1 WHERE sku = 'SKU-1'")
			return err
		})
		switch {
		case err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		case result == participant.TooLate:
			w.WriteHeader(http.StatusConflict)
		default: // Executed, Repeated, Empty
			w.WriteHeader(http.StatusOK)
		}
	}
	http.HandleFunc("POST /v1/reservations/release", release)
}

// A transfer between two banks, each with a database of its own: both parts are prepared, and
// committed when both are. This is one of them.
func ExampleXA() {
	transfer := &participant.XA{DB: openDatabase(), RegisterAt: []string{"http://gateway.internal:8081/"}}
	http.Handle("POST /v1/withdrawals", transfer.Handler(
		func(conn *sql.Conn, r *http.Request) (participant.Response, error) {
			done, err := conn.ExecContext(r.Context(),
				"UPDATE account SET balance = balance - 30 WHERE id = 1 AND balance >= 30")
			if err != nil {
				return participant.Response{}, err
			}
			if n, err := done.RowsAffected(); err != nil || n == 0 {
				return participant.Refusal(http.StatusConflict, "no-funds"), err
			}
			return participant.JSON(http.StatusOK, nil), nil
		}))
}

// The coordinator's parameters name the branch that a request is a call of.
func ExampleFromQuery() {
	query, err := url.ParseQuery("sku=SKU-1&gid=g0000001&trans_type=saga&branch_id=02&op=compensate")
	if err != nil {
		log.Fatal(err)
	}
	branch, ok, err := participant.FromQuery(query)
	fmt.Println(branch.GID, branch.BranchID, branch.Op, ok, err)
	_, ok, err = participant.FromQuery(url.Values{"sku": {"SKU-1"}})
	fmt.Println(ok, err)
	_, _, err = participant.FromQuery(url.Values{"gid": {"g0000001"}})
	fmt.Println(err)

	// Output:
	// g0000001 02 compensate true <nil>
	// false <nil>
	// participant: branch id "" of a branch call must have 1 to 128 bytes
}

// NothingDone says for which errors a request may be sent again as if it had never come.
func ExampleNothingDone() {
	fmt.Println(participant.NothingDone(participant.ErrAbandoned))
	fmt.Println(participant.NothingDone(errors.New("shop: card declined")))

	// Output:
	// true
	// false
}

// A refusal has a reason that clients can tell from others.
func ExampleRefusal() {
	r := participant.Refusal(http.StatusConflict, "sold-out")
	fmt.Printf("%d %s", r.Status, r.Body)

	// Output:
	// 409 {"reason":"sold-out"}
}

package sagaclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/sluice-gateway/sluice/sagaclient"
)

// coordinator plays DTM: it accepts a saga, and says that it has succeeded. It returns its URL.
func coordinator() (url string, stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/dtmsvr/submit", func(w http.ResponseWriter, r *http.Request) {
		var saga struct {
			GID   string `json:"gid"`
			Steps []struct {
				Action string `json:"action"`
			} `json:"steps"`
		}
		if err := json.NewDecoder(r.Body).Decode(&saga); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Println("submitted:", saga.GID, "with", len(saga.Steps), "steps")
		fmt.Fprint(w, `{"dtm_result":"SUCCESS"}`)
	})
	mux.HandleFunc("GET /api/dtmsvr/query", func(w http.ResponseWriter, r *http.Request) {
		gid := r.FormValue("gid")
		if gid != "order00000001" {
			fmt.Fprint(w, `{"transaction":null,"branches":[]}`)
			return
		}
		fmt.Fprintf(w, `{"transaction":{"gid":%q,"status":"succeed"},"branches":[
			{"branch_id":"01","op":"action","status":"succeed","url":"http://stock/reserve"},
			{"branch_id":"01","op":"compensate","status":"prepared","url":"http://stock/release"}]}`, gid)
	})
	server := httptest.NewServer(mux)
	return server.URL, server.Close
}

// A saga is submitted once; its state is queried as often as one likes.
func Example() {
	url, stop := coordinator()
	defer stop()
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	saga := &sagaclient.Saga{
		GID: "order00000001", Wait: true, Timeout: time.Minute,
		Steps: []sagaclient.Step{
			{
				Name: "reserve", Payload: []byte(`{"sku":"SKU-1"}`),
				Action: "http://stock/reserve", Compensate: "http://stock/release",
			},
			{Name: "pay", Payload: []byte(`{"amount":1998}`), Action: "http://payment/charge"},
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch err := client.Submit(ctx, saga); {
	case errors.Is(err, sagaclient.ErrCoordinatorDown):
		fmt.Println("nothing was submitted; submit again later")
		return
	case errors.Is(err, sagaclient.ErrUnknown):
		fmt.Println("it may run; query its gid, and never submit it again")
	case err != nil:
		fmt.Println(err)
		return
	}
	t, err := client.Wait(ctx, saga.GID)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("state:", t.Status, "ended:", t.Status.Ended())
	for _, b := range t.Branches {
		fmt.Println("branch", b.ID, b.Op, b.Status)
	}

	// Output:
	// submitted: order00000001 with 2 steps
	// state: succeed ended: true
	// branch 01 action succeed
	// branch 01 compensate prepared
}

// The gid comes from the business key, so that a program which dies after the submit finds its
// transaction again.
func ExampleClient_SubmitAndWait() {
	url, stop := coordinator()
	defer stop()
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	result, err := client.SubmitAndWait(ctx, &sagaclient.Saga{
		GID: "order00000001", // sagaclient.GIDFor("order", "1")
		Steps: []sagaclient.Step{
			{Name: "reserve", JSON: map[string]string{"sku": "SKU-1"}, Action: "http://stock/reserve",
				Compensate: "http://stock/release"},
		},
	})
	var failed *sagaclient.Error
	switch {
	case errors.Is(err, sagaclient.ErrUnknown):
		fmt.Println("it may run; query its gid later, and never submit it again")
	case errors.As(err, &failed):
		fmt.Println(failed.Kind, failed.Status, failed.Reason)
	case result.Outcome == sagaclient.OutcomeFailed:
		fmt.Println("rolled back, because of", result.Step, result.Reason)
	default:
		fmt.Println(result.Outcome)
	}

	// Output:
	// submitted: order00000001 with 1 steps
	// succeeded
}

// What is to be tried again after a roll-back has the number of the try in its gid.
func ExampleGIDFor() {
	fmt.Println(sagaclient.GIDFor("order", "4711"))
	fmt.Println(sagaclient.GIDFor("order", "4711") == sagaclient.GIDFor("order", "4711", "2"))

	// Output:
	// l2qojvgm1vdrqadiad94egn5s2pukpe1btij9osu
	// false
}

// What has not ended, of every kind of transaction.
func ExampleClient_All() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"transactions":[{"gid":"order00000001","trans_type":"saga","status":"submitted"}]}`)
	}))
	defer server.Close()
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{server.URL}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	for t, err := range client.All(context.Background(), sagaclient.Filter{Status: sagaclient.Submitted}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(t.GID, t.Type, t.Status)
	}

	// Output:
	// order00000001 saga submitted
}

// The errors tell what the caller may do next.
func ExampleClient_Query() {
	url, stop := coordinator()
	defer stop()
	client, err := sagaclient.New(sagaclient.Options{Endpoints: []string{url}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	_, err = client.Query(context.Background(), "order00000002")
	fmt.Println(errors.Is(err, sagaclient.ErrNotFound), err)

	// Output:
	// true sagaclient: query of gid "order00000002": no such transaction
}

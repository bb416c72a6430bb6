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

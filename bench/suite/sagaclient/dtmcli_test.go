package sagaclient_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmcli"

	"github.com/sluice-gateway/sluice/bench/kit/dtmtest"
	"github.com/sluice-gateway/sluice/sagaclient"
	"github.com/sluice-gateway/sluice/sagaclient/fromdtmcli"
)

// A saga that was built with dtmcli runs by this client as its author meant it: the order of its
// steps, their bodies, the fields of its calls, and the parameters that dtmcli's barrier reads.
func TestSagaOfDTMCLI(t *testing.T) {
	t.Parallel()
	d := dtmtest.Start(t, dtmtest.Options{})
	c, err := sagaclient.New(sagaclient.Options{Endpoints: []string{d.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	var mu sync.Mutex
	var calls []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		bar, err := dtmcli.BarrierFromQuery(r.URL.Query())
		if err != nil {
			t.Error(err)
			return
		}
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, bar.TransType+" "+bar.BranchID+" "+bar.Op+" "+string(body)+" "+r.Header.Get("X-Tenant"))
		if bar.BranchID == "03" && bar.Op == "action" {
			w.WriteHeader(http.StatusConflict)
		}
	}))
	t.Cleanup(service.Close)

	s := dtmcli.NewSaga("", "dtmcli000001")
	for i := range 3 {
		s.Add(service.URL+"/do", service.URL+"/undo", map[string]int{"n": i})
	}
	s.SetConcurrent().AddBranchOrder(2, []int{0, 1})
	s.BranchHeaders = map[string]string{"X-Tenant": "north"}
	s.WaitResult = true
	saga, err := fromdtmcli.Saga(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Submit(context.Background(), saga); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tr, err := c.Wait(ctx, s.Gid)
	if err != nil || tr.Status != sagaclient.Failed {
		t.Fatalf("%+v, %v; want it rolled back", tr, err)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(calls[:2])
	slices.Sort(calls[3:])
	want := []string{
		`saga 01 action {"n":0} north`, `saga 02 action {"n":1} north`, `saga 03 action {"n":2} north`,
		`saga 01 compensate {"n":0} north`, `saga 02 compensate {"n":1} north`, `saga 03 compensate {"n":2} north`,
	}
	if !slices.Equal(calls, want) {
		t.Errorf("calls\n%q\nwant\n%q", calls, want)
	}
}

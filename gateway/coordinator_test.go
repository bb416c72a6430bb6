package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// coordinator plays DTM for sagas whose steps come one after the other: it calls each until it is done,
// within the submit.
type coordinator struct {
	*httptest.Server
	mu    sync.Mutex
	known map[string]string // gid to what a query returns
}

func newCoordinator(t *testing.T) *coordinator {
	c := &coordinator{known: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/submit") {
			c.submit(t, r)
			io.WriteString(w, `{"dtm_result":"SUCCESS"}`)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if known, ok := c.known[r.URL.Query().Get("gid")]; ok {
			io.WriteString(w, known)
			return
		}
		io.WriteString(w, `{"branches":[],"transaction":null}`)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *coordinator) submit(t *testing.T, r *http.Request) {
	var saga struct {
		GID      string              `json:"gid"`
		Steps    []map[string]string `json:"steps"`
		Payloads []string            `json:"payloads"`
	}
	if err := json.NewDecoder(r.Body).Decode(&saga); err != nil {
		t.Error(err)
		return
	}
	c.set(saga.GID, "submitted")
	for i, step := range saga.Steps {
		q := url.Values{"gid": {saga.GID}, "trans_type": {"saga"}, "op": {"action"},
			"branch_id": {fmt.Sprintf("%02d", i+1)}}
		for c.call(t, step["action"]+"?"+q.Encode(), saga.Payloads[i]) != http.StatusOK {
			if r.Context().Err() != nil {
				return
			}
			time.Sleep(5 * time.Millisecond) // between its tries, as a coordinator does
		}
	}
	c.set(saga.GID, "succeed")
}

func (c *coordinator) call(t *testing.T, target, payload string) int {
	resp, err := client.Post(target, "application/json", strings.NewReader(payload))
	if err != nil {
		t.Error(err)
		return http.StatusOK
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (c *coordinator) set(gid, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[gid] = fmt.Sprintf(`{"transaction":{"update_time":%q,"gid":%q,"status":%q},"branches":[]}`,
		time.Now().Format(time.RFC3339Nano), gid, status)
}

package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// submitNew submits a saga of one step with what only the gateway calls, and returns the status.
func (p *process) submitNew(t *testing.T, gid, url string) int {
	t.Helper()
	body := fmt.Sprintf(`{"gid":%q,"trans_type":"saga","wait_result":true,"retry_interval":1,`+
		`"steps":[{"action":%q,"compensate":%q}],"payloads":["{}"]}`, gid, url+"/do", url+"/undo")
	resp, err := http.Post("http://"+p.addr+"/api/dtmsvr/submitNew", "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestAKnownGIDIsRefused: of many submits of one gid at once one is taken, and its step is done once, whatever becomes
// of it; DTM's own submit would run it once more. What is known otherwise is refused too.
func TestAKnownGIDIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, store := range []string{embedded, boltdb} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			p := start(t, "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--store", store)
			var all sync.WaitGroup
			var taken, refused atomic.Int32
			for range 8 {
				all.Go(func() {
					switch code := p.submitNew(t, "gid000000001", s.URL+"/"+store); code {
					case http.StatusOK:
						taken.Add(1)
					case http.StatusPreconditionFailed:
						refused.Add(1)
					default:
						t.Errorf("status %d", code)
					}
				})
			}
			all.Wait()
			if n := s.count("/" + store + "/do"); taken.Load() != 1 || refused.Load() != 7 || n != 1 {
				t.Errorf("%d taken, %d refused, the step was called %d times", taken.Load(), refused.Load(), n)
			}
			p.submit(t, "gid000000002", 1, s.URL+"/"+store+"/other")
			if code := p.submitNew(t, "gid000000002", s.URL+"/"+store+"/other"); code != http.StatusPreconditionFailed {
				t.Errorf("a gid of DTM's submit: %d", code)
			}
			if code := p.submitNew(t, "", "not a URL"); code < 400 || code == http.StatusPreconditionFailed {
				t.Errorf("a saga without a gid: %d", code)
			}
		})
	}
}

package peer

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve runs the proxy before a service, and returns what a GET of a path gives.
func serve(t *testing.T, prioritized bool, timeout time.Duration, h http.HandlerFunc) func(path string) int {
	t.Helper()
	service := httptest.NewServer(h)
	t.Cleanup(service.Close)
	address := strings.TrimPrefix(service.URL, "http://")
	proxy := httptest.NewServer(newHandler(t.Context(), Options{Order: address, Stock: address, Timeout: timeout,
		Prioritized: prioritized}))
	t.Cleanup(proxy.Close)
	return func(path string) int {
		resp, err := http.Get(proxy.URL + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
}

func TestProxies(t *testing.T) {
	t.Parallel()
	for _, prioritized := range []bool{false, true} {
		get := serve(t, prioritized, 20*time.Second, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/orders" {
				w.WriteHeader(http.StatusCreated)
			}
		})
		for path, want := range map[string]int{"/v1/orders": 201, "/v1/stock/critical": 200, "/v1/stock/HOT": 200} {
			if got := get(path); got != want {
				t.Errorf("prioritized %v, %s: %d, want %d", prioritized, path, got, want)
			}
		}
	}
}

func TestServiceThatHangs(t *testing.T) {
	t.Parallel()
	get := serve(t, false, 20*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if got := get("/v1/orders"); got != http.StatusGatewayTimeout {
		t.Errorf("%d, want 504", got)
	}
}

func TestShedsBeyondTheLimit(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	get := serve(t, false, 20*time.Second, func(http.ResponseWriter, *http.Request) { <-free })
	codes := make(chan int)
	const n = 100 // the limit begins at 20
	for range n {
		go func() { codes <- get("/v1/orders") }()
	}
	count := map[int]int{}
	for range n / 2 { // these can only be refusals: nothing else ends
		count[<-codes]++
	}
	close(free)
	for range n - n/2 {
		count[<-codes]++
	}
	if count[503] < n/2 || count[200] == 0 || count[200]+count[503] != n {
		t.Errorf("%v", count)
	}
}

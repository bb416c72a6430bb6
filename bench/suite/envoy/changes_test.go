package envoy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/kit/envoytest"
)

// version is a configuration whose routes say which one it is.
func version(n int) string {
	return preamble + fmt.Sprintf(`
services: {shop: {endpoints: ["http://SERVICE"]}}
routes:
  - {name: version, match: {path: /version}, respond: {status: 200, body: "%d"}}
  - {name: stock, match: {path: "/v1/stock/{sku}"}, service: shop}
`, n)
}

// TestChangesUnderLoad: no request fails while the configuration changes again and again, and each
// change comes to be in force.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("SotW %t", sotw), func(t *testing.T) {
			t.Parallel()
			w := start(t, version(0), envoytest.Options{SotW: sotw})
			stop, ended := make(chan struct{}), make(chan int64)
			go func() { ended <- load(w, stop) }()
			const changes = 20
			for n := 1; n <= changes; n++ {
				w.change(version(n))
				await(t, fmt.Sprintf("version %d in Envoy", n), func() bool {
					return w.get("/version").body == fmt.Sprint(n)
				})
			}
			close(stop)
			requests := <-ended
			if requests < changes {
				t.Errorf("only %d requests went through while the configuration changed", requests)
			}
			if n := w.envoy.Stat("listener_manager.listener_in_place_updated"); n > 0 {
				t.Errorf("the listener was replaced %d times, and only routes changed", n)
			}
		})
	}
}

// load sends requests on kept connections until it is stopped, and returns how many went well; the
// first that does not fails the test.
func load(w *world, stop <-chan struct{}) (good int64) {
	c := &http.Client{Timeout: limit, Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return good
		default:
		}
		r, err := c.Get("http://" + w.http + "/v1/stock/a")
		if err != nil {
			w.t.Errorf("a request while the configuration changes: %v", err)
			return good
		}
		_ = r.Body.Close()
		if r.StatusCode != 200 {
			w.t.Errorf("a request while the configuration changes: %s", r.Status)
			return good
		}
		good++
	}
}

// TestRefusedByEnvoy: what our checks let through and Envoy does not take is shown with node and
// cause, taken back, and asked of Envoy once; the old configuration is in force again, and the next
// good one comes through.
func TestRefusedByEnvoy(t *testing.T) {
	t.Parallel()
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("SotW %t", sotw), func(t *testing.T) {
			t.Parallel()
			w := start(t, version(1), envoytest.Options{SotW: sotw, Node: "envoy-9"})
			const https = `listen: {https: {address: "127.0.0.1:0", cert: CERT, key: CERT}, `
			bad := strings.Replace(version(2), "listen: {", https, 1)
			w.change(strings.ReplaceAll(bad, "CERT", w.file))
			await(t, "the refusal in the control plane's status", func() bool { return len(w.status().Nacks) > 0 })
			nack := w.status().Nacks[0]
			if nack.Node != "envoy-9" || !strings.Contains(nack.Type, "Listener") ||
				!strings.Contains(nack.Message, "certificate") {
				t.Errorf("what is shown of the refusal: %+v", nack)
			}
			// Envoy takes each type by itself: the routes of the refused change may be there for a moment.
			await(t, "the version before the refusal", func() bool { return w.get("/version").body == "1" })
			rejected := w.envoy.Stat("listener_manager.lds.update_rejected")
			w.change(version(3))
			await(t, "the next good version", func() bool { return w.get("/version").body == "3" })
			if n := w.envoy.Stat("listener_manager.lds.update_rejected"); rejected != 1 || n != rejected {
				t.Errorf("Envoy refused it %d times, and %d by the end", rejected, n)
			}
		})
	}
}

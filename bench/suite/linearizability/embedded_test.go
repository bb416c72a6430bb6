package linearizability

import "testing"

// The embedded store promises that nothing acknowledged is lost when its gateway is killed.
func TestGatewayWithTheEmbeddedStoreIsKilled(t *testing.T) {
	t.Parallel()
	for _, onUnknown := range []string{"hold", "retry", "probe"} {
		t.Run(onUnknown, func(t *testing.T) {
			tr := startTrial(t, 1, onUnknown, "{embedded: {dir: data}}")
			kills := 0
			kill := func() {
				tr.gateways[0].Kill()
				kills++
			}
			tr.rounds(15, func(round int) {
				tr.served(0, 10, 120)
				release := nothing
				if round%3 == 0 { // with a request at the service for certain
					_, release = tr.caught(0)
				}
				kill()
				release()
				tr.gateways[0].Restart()
			})
			r := tr.end(func() {
				kill()
				tr.gateways[0].Restart()
			})
			t.Logf("%d kills", kills)
			if r.Responses["none"] == 0 {
				t.Error("no client lost its response to a kill")
			}
			if n := r.Responses["503 store-unavailable"]; n != 0 {
				t.Errorf("%d refusals although the store was there whenever its gateway was", n)
			}
			if onUnknown == "hold" && r.Retried != 0 || onUnknown == "retry" && r.Retried == 0 {
				t.Errorf("%d executions above the first attempt", r.Retried)
			}
		})
	}
}

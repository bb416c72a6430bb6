//go:build linux && !race

package flashsale

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/build"
	"github.com/sluice-gateway/sluice/bench/shop"
)

// TestShortSale runs the sale for some seconds: two gateways on one Redis, one of which is killed,
// and a payment service that charges and does not answer. What the audit says is exact; speed is
// only compared with the same sale without shedding. Under the race detector the figures would be
// its own.
func TestShortSale(t *testing.T) {
	o := Options{
		Program: build.Sluice(t), Coordinator: build.Coordinator(t), Scenario: scenarioSale, Short: true,
		Half: 3 * time.Second, Peak: 6 * time.Second, Capacity: shop.Capacity{Workers: 2, Latency: 50 *
			time.Millisecond},
		Seed: 1, Gateways: 2, Store: storeRedis, Faults: []string{killGateway + "@4s", "payment-silent@7s"},
		Controls: ShortControls, Dir: t.TempDir(),
	}
	began := time.Now()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v\n%s", time.Since(began).Round(time.Second), table.String())
	if !r.Met() {
		t.Error("a bar was missed")
	}
	for _, m := range r.Marks {
		if strings.HasPrefix(m.What, "units oversold") && m.Got != nil {
			return
		}
	}
	t.Error("the audit was not judged")
}

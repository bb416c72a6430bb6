package envoydialect_test

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/control/envoydialect"
)

// Preflights of a route to a transaction, and of its status, come to the gateway that serves it.
func TestPreflightsOfTransactions(t *testing.T) {
	t.Parallel()
	text := strings.Replace(transactions, "transaction: buy, status",
		`cors: {origins: ["https://shop.example"]}, transaction: buy, status`, 1)
	r, _ := compile(t, parse(t, "envoy: {gateway: 'gateway.internal:8080'}\n"+text), envoydialect.Options{})
	of := map[string]string{}
	for _, table := range r.Routes {
		for _, host := range table.VirtualHosts {
			for _, route := range host.Routes {
				asked, options := "", false
				for _, h := range route.GetMatch().GetHeaders() {
					switch h.Name {
					case "access-control-request-method":
						asked = h.GetStringMatch().GetSafeRegex().GetRegex()
					case ":method":
						options = h.GetStringMatch().GetExact() == "OPTIONS"
					}
				}
				if asked != "" && options && route.GetRoute() != nil {
					of[route.Name] = asked
				}
			}
		}
	}
	if of["buy"] != "POST" || of["buy/status"] != "GET|HEAD" {
		t.Errorf("preflights that are passed on: %v", of)
	}
}

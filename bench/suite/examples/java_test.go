//go:build java && !race

package examples_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
)

// TestJavaBranchesSurviveKills is the same with services in Java: make interop-java builds and runs them. It is behind
// a build tag because Java and Maven are not needed for anything else.
func TestJavaBranchesSurviveKills(t *testing.T) {
	survive(t, []example{{name: "java-branches", file: "java-branches.yaml", place: purchase, audit: auditJava}})
}

func purchase(l *load, random *rand.Rand, key string) {
	o := order{path: "/v1/purchases", user: "ann", key: key, refuse: oneIn(random, 4)}
	if o.refuse {
		o.user = "broke"
	}
	o.body = fmt.Sprintf(`{"sku":"SKU-1","qty":1,"amount":%d}`, 100+random.IntN(900))
	l.send(o)
}

// auditJava: the reservations of the Dubbo provider and the payments of the Spring service are those of the orders that
// succeeded, and of what the header says to try.
func auditJava(r *running, ends []end) {
	r.world.Helper()
	type row struct{ ID string }
	var reservations []row
	status, body, err := roundTrip(r.world.Context(), http.MethodPost, r.url("8080", "/example.StockService/list"),
		"[]", "X-User", "ops")
	if err == nil {
		err = json.Unmarshal([]byte(body), &reservations)
	}
	if err != nil || status != http.StatusOK {
		r.world.Fatalf("the reservations: %d, %v: %s", status, err, body)
	}
	payments := read[[]row](r, "7402", "/v1/payments")
	succeeded := 1
	for _, e := range ends {
		if !e.succeeded {
			continue
		}
		succeeded++
		for what, rows := range map[string][]row{"reservation": reservations, "payment": payments} {
			n := 0
			for _, one := range rows {
				if one.ID == e.gid {
					n++
				}
			}
			if n != 1 {
				r.world.Errorf("%s succeeded as %s and has %d of its %s, want 1", e.key, e.gid, n, what)
			}
		}
	}
	if len(reservations) != succeeded || len(payments) != succeeded {
		r.world.Errorf("%d succeeded, and there are %d reservations and %d payments", succeeded, len(reservations),
			len(payments))
	}
}

package harness

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/bench/shop"
)

// Shop is the sample shop, running in the test's own process: it outlives the gateways and
// coordinators that are killed.
type Shop struct{ *shop.Shop }

// StartShop runs a shop with its ledgers in dir, on free ports.
func StartShop(t testing.TB, dir string) *Shop {
	t.Helper()
	s, err := shop.Start(shop.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("harness: closing the shop: %v", err)
		}
	})
	return &Shop{s}
}

// Fault adds a fault to a service; the JSON is that of [shop.Fault].
func (s *Shop) Fault(t testing.TB, service, fault string) {
	t.Helper()
	s.faults(t, http.MethodPost, service, fault)
}

// Heal takes all faults of a service away and lets go what they hold.
func (s *Shop) Heal(t testing.TB, service string) {
	t.Helper()
	s.faults(t, http.MethodDelete, service, "")
}

func (s *Shop) faults(t testing.TB, method, service, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.URL(service)+"/faults", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("harness: %s /faults of %s: %s", method, service, resp.Status)
	}
}

package salememory

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Options{Open: func(*testing.T) (sale.Store, func(time.Duration)) {
		now := time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
		return New(func() time.Time { return now }), func(d time.Duration) { now = now.Add(d) }
	}})
}

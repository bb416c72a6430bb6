package saleredis

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/storetest"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t testing.TB, addr string, cluster bool) *redisx.Client {
	c := redisx.Open(redisx.Options{Addresses: []string{addr}, Cluster: cluster, Timeout: 20 * time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fresh returns options by which each test has a store of its own in one Redis.
func fresh(client *redisx.Client) storetest.Options {
	var n atomic.Int64
	return storetest.Options{Open: func(*testing.T) (sale.Store, func(time.Duration)) {
		return New(client, fmt.Sprintf("s%d:", n.Add(1))), nil
	}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, fresh(dial(t, redistest.Start(t), false)))
}

func TestConformanceOnCluster(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{Cluster: true})
	storetest.Run(t, fresh(dial(t, server.Addr(), true)))
}

package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyembedded"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyredis"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/ratelimit/ratelimitredis"
	"github.com/sluice-gateway/sluice/filters/sale"
	"github.com/sluice-gateway/sluice/filters/sale/saleembedded"
	"github.com/sluice-gateway/sluice/filters/sale/salememory"
	"github.com/sluice-gateway/sluice/filters/sale/saleredis"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom/waitingroommemory"
	"github.com/sluice-gateway/sluice/filters/sale/waitingroom/waitingroomredis"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// stores are what the process keeps state in, as the configuration at its start has it.
type stores struct {
	logger  *slog.Logger
	metrics *metrics
	records idempotency.Store
	kept    idempotency.Store // records, as it is
	codec   *idempotency.ResponseCodec
	census  census
	calls   *idempotency.Calls
	ends    idempotency.Ends // of records
	sales   func() (sale.Store, error)

	closeSales func() error // nil: there is nothing to close

	state   atomic.Pointer[storeState] // of the last ping
	reached atomic.Bool                // one has found that it takes reads and writes

	kind string // embedded, redis or memory

	redis      *redisx.Client     // nil without Redis
	redisConf  *config.RedisStore // nil without Redis
	membership *redisx.Membership // nil without Redis
}

// openStores opens the store of the configuration. One that does not answer yet is no error.
func openStores(ctx context.Context, cfg *config.Config, logger *slog.Logger, m *metrics) (*stores, error) {
	st := &stores{logger: logger, metrics: m, calls: idempotency.NewCalls()}
	var err error
	if st.codec, err = idempotency.NewResponseCodec(cfg.Store.Encryption.ParsedKeys()...); err != nil {
		return nil, fmt.Errorf("gateway: store.encryption: %w", err)
	}
	records, err := st.open(cfg)
	if err != nil {
		return nil, err
	}
	m.registry.Add(&st.census)
	st.kept = records
	if st.records = records; cfg.Store.Memory == nil { // a call of that one takes less time than to look at the clock
		st.records = measuredStore{records, m.store}
	}
	st.records = st.ends.Observe(st.records)
	st.sales = sync.OnceValues(func() (sale.Store, error) { return st.openSales(cfg) })
	// Redis may come later, and a disk have room; until then the gateway is unready
	if err := st.ping(ctx); err != nil {
		logger.Warn(st.state.Load().String()+" yet", "error", err)
	}
	return st, nil
}

func (st *stores) open(cfg *config.Config) (idempotency.Store, error) {
	switch s := cfg.Store; {
	case s.Redis != nil:
		st.kind, st.redisConf = "redis", s.Redis
		st.redis = newRedis(s.Redis)
		st.membership = redisx.NewMembership(st.redis, s.Redis.KeyPrefix+"gateways", instanceID())
		return idempotencyredis.New(st.redis, idempotencyredis.Options{
			Prefix: s.Redis.KeyPrefix, Logger: st.logger, Failovers: st.metrics.store.failovers,
		}), nil
	case s.Memory != nil:
		st.kind = "memory"
		return idempotencymemory.New(steadyClock(time.Now)), nil
	case s.Embedded != nil:
		st.kind = "embedded"
		store, err := idempotencyembedded.Open(s.Embedded.Dir, idempotencyembedded.Options{
			Logger: st.logger, Now: steadyClock(time.Now), Timeout: time.Duration(s.Embedded.Timeout),
			MaxRecords: s.Embedded.MaxRecords,
		})
		if err != nil {
			return nil, err
		}
		st.metrics.registry.Add(newEmbeddedMetrics(store.Stats))
		return store, nil
	}
	return nil, errors.New("gateway: the configuration names no store") // config.Load always derives one
}

// openSales opens the store of the units of sales, when the first configuration has one.
func (st *stores) openSales(cfg *config.Config) (sale.Store, error) {
	switch s := cfg.Store; {
	case s.Redis != nil:
		o := saleredis.Options{
			Prefix: s.Redis.KeyPrefix, Sentinel: s.Redis.Sentinel != nil, Logger: st.logger,
			Unreplicated: st.metrics.store.unreplicated,
		}
		if s.Redis.Cluster { // on one server it would bring nothing
			o.Divide = saleredis.DivideFrom
		}
		return saleredis.New(st.redis, o), nil
	case s.Embedded != nil:
		store, err := saleembedded.Open(filepath.Join(s.Embedded.Dir, "sales"), saleembedded.Options{
			Logger: st.logger, Now: steadyClock(time.Now), Timeout: time.Duration(s.Embedded.Timeout),
		})
		if err != nil {
			return nil, err
		}
		st.closeSales = store.Close
		return store, nil
	}
	return salememory.New(steadyClock(time.Now)), nil
}

// forPolicies returns what the policies keep their state in.
func (st *stores) forPolicies() policy.Stores {
	out := policy.Stores{
		Records: st.records, Codec: st.codec, Calls: st.calls, Ends: &st.ends, Sales: st.sales,
		LiveGateways: st.liveGateways,
	}
	out.Waiting = waitingroommemory.New(steadyClock(time.Now)) // this gateway is alone
	if c := st.redisConf; c != nil {
		out.Waiting = waitingroomredis.New(st.redis, c.KeyPrefix)
		out.SharedLimiter = func(limit ratelimit.Limit) ratelimit.Limiter {
			return ratelimitredis.New(st.redis, c.KeyPrefix, limit)
		}
	}
	return out
}

func newRedis(c *config.RedisStore) *redisx.Client {
	o := redisx.Options{
		Addresses: c.Addresses, Cluster: c.Cluster, Username: c.Username, Password: c.Password, TLS: c.TLS,
		Timeout: time.Duration(c.Timeout),
	}
	if m := c.Sentinel; m != nil {
		o.Sentinel = &redisx.Sentinel{Master: m.Master, Username: m.Username, Password: m.Password}
	}
	return redisx.Open(o)
}

// instanceID tells this process from the other gateways of a store: the host, for people, and what is drawn.
func instanceID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails (crypto/rand)
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return host + "/" + hex.EncodeToString(b)
}

// storeState is what the last look at the store found.
type storeState struct {
	err   error // nil: it takes reads and writes
	since time.Time
}

// takesNoWrites reports whether the store answers, and refuses writes.
func (s *storeState) takesNoWrites() bool { return errors.Is(s.err, idempotency.ErrNoWrites) }

// String says it in words.
func (s *storeState) String() string {
	switch {
	case s.err == nil:
		return "the store answers"
	case s.takesNoWrites():
		return "the store takes no writes"
	}
	return "the store does not answer"
}

// ping asks the store whether it takes reads and writes, and publishes that.
func (st *stores) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	now := &storeState{err: st.records.Ping(ctx), since: time.Now()}
	was := st.state.Load()
	if same := was != nil && was.String() == now.String(); same {
		now.since = was.since
	} else if now.err != nil && was != nil {
		st.logger.Error(now.String(), "error", now.err)
	} else if now.err == nil {
		st.logger.Info(now.String())
	}
	st.state.Store(now)
	up := 0.0
	if now.err == nil {
		st.reached.Store(true)
		up = 1
	}
	st.metrics.store.up.Set(up)
	return now.err
}

// watch pings every second until ctx ends.
func (st *stores) watch(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := st.ping(ctx); err != nil {
				continue // logged when it changed
			}
		}
	}
}

func (st *stores) liveGateways() int {
	if st.membership == nil {
		return 1
	}
	return st.membership.Live()
}

// countKeys counts the keys of the store until ctx ends.
func (st *stores) countKeys(ctx context.Context) error {
	return st.census.run(ctx, st.kept, st.logger, func() bool { return st.state.Load().err == nil })
}

// gateways returns the names of the gateways that share the store, nil where this one is alone.
func (st *stores) gateways() []string {
	if st.membership == nil {
		return nil
	}
	return slices.Sorted(slices.Values(st.membership.Members()))
}

// close closes the store. No request runs any more.
func (st *stores) close() {
	st.calls.Close()
	if st.closeSales != nil {
		if err := st.closeSales(); err != nil {
			st.logger.Error("the store of sales was not closed cleanly", "error", err)
		}
	}
	if err := st.records.Close(); err != nil {
		st.logger.Error("the store was not closed cleanly", "error", err)
	}
	if st.redis != nil {
		if err := st.redis.Close(); err != nil {
			st.logger.Warn("the connections to Redis were not closed cleanly", "error", err)
		}
	}
}

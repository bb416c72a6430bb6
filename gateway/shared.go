package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyembedded"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencymemory"
	"github.com/sluice-gateway/sluice/filters/idempotency/idempotencyredis"
	"github.com/sluice-gateway/sluice/filters/ratelimit"
	"github.com/sluice-gateway/sluice/filters/store/redisx"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// shared is what outlives a reload: it belongs to the process.
type shared struct {
	logger  *slog.Logger
	metrics *metrics

	store      idempotency.Store
	codec      *idempotency.ResponseCodec
	redis      *redisx.Client // nil without Redis
	redisConf  *config.RedisStore
	membership *redisx.Membership // nil without Redis
	flights    *idempotency.Calls
	storeUp    atomic.Bool

	// Kept by name and settings, so that a reload that leaves one as it was leaves its state too.
	breakers map[string]*breaker.Breaker
	limiters map[string]ratelimit.Limiter
	services map[string]*upstream.Service
}

func newShared(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*shared, error) {
	sh := &shared{
		logger: logger, metrics: newMetrics(), flights: idempotency.NewCalls(),
		breakers: map[string]*breaker.Breaker{}, limiters: map[string]ratelimit.Limiter{}, services: map[string]*upstream.Service{},
	}
	var err error
	if sh.codec, err = idempotency.NewResponseCodec(cfg.Store.Encryption.ParsedKeys()...); err != nil {
		return nil, fmt.Errorf("gateway: store.encryption: %w", err)
	}
	store, err := sh.openStore(cfg)
	if err != nil {
		return nil, err
	}
	if sh.store = store; cfg.Store.Memory == nil { // a call of that one takes less time than to look at the clock
		sh.store = measured{store, sh.metrics}
	}
	if err := sh.ping(ctx); err != nil { // Redis may come later, and a disk have room; until then the gateway is unready
		logger.Warn("the store does not answer yet", "error", err)
	}
	return sh, nil
}

func (sh *shared) openStore(cfg *config.Config) (idempotency.Store, error) {
	switch s := cfg.Store; {
	case s.Redis != nil:
		sh.redisConf = s.Redis
		sh.redis = newRedis(s.Redis)
		sh.membership = redisx.NewMembership(sh.redis, s.Redis.KeyPrefix+"gateways", instanceID())
		return idempotencyredis.New(sh.redis, idempotencyredis.Options{
			Prefix: s.Redis.KeyPrefix, Logger: sh.logger, Failovers: sh.metrics.storeFailovers,
		}), nil
	case s.Memory != nil:
		return idempotencymemory.New(steadyClock(time.Now)), nil
	case s.Embedded != nil:
		store, err := idempotencyembedded.Open(s.Embedded.Dir, idempotencyembedded.Options{
			Logger: sh.logger, Now: steadyClock(time.Now), Timeout: time.Duration(s.Embedded.Timeout), MaxRecords: s.Embedded.MaxRecords,
		})
		if err != nil {
			return nil, err
		}
		sh.metrics.registry.MustRegister(newEmbeddedMetrics(store.Stats))
		return store, nil
	}
	return nil, fmt.Errorf("gateway: the configuration names no store") // config.Load always fills one in
}

func newRedis(c *config.RedisStore) *redisx.Client {
	o := redisx.Options{
		Addresses: c.Addresses, Cluster: c.Cluster, Username: c.Username, Password: c.Password, TLS: c.TLS, Timeout: time.Duration(c.Timeout),
	}
	if m := c.Sentinel; m != nil {
		o.Sentinel = &redisx.Sentinel{Master: m.Master, Username: m.Username, Password: m.Password}
	}
	return redisx.Open(o)
}

// instanceID tells this process from the other gateways of a store.
func instanceID() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// ping asks the store whether it answers, and publishes that.
func (sh *shared) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := sh.store.Ping(ctx)
	up := err == nil
	if was := sh.storeUp.Swap(up); was != up {
		if up {
			sh.logger.Info("the store answers")
		} else {
			sh.logger.Error("the store does not answer", "error", err)
		}
	}
	if up {
		sh.metrics.storeUp.Set(1)
	} else {
		sh.metrics.storeUp.Set(0)
	}
	return err
}

// watchStore pings every second until ctx ends.
func (sh *shared) watchStore(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := sh.ping(ctx); err != nil {
				continue // logged when it changed
			}
		}
	}
}

func (sh *shared) liveGateways() int {
	if sh.membership == nil {
		return 1
	}
	return sh.membership.Live()
}

func (sh *shared) close() {
	sh.flights.Close()
	for _, s := range sh.services {
		s.Close()
	}
	if err := sh.store.Close(); err != nil {
		sh.logger.Error("the store was not closed cleanly", "error", err)
	}
	if sh.redis != nil {
		if err := sh.redis.Close(); err != nil {
			sh.logger.Warn("the connections to Redis were not closed cleanly", "error", err)
		}
	}
}

package idempotencyredis

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// TestACensusThatFailsIsNotBegunAnewAtOnce: a server that is too slow for it would be read over and over.
func TestACensusThatFailsIsNotBegunAnewAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Run(t, redistest.Options{})
	s := open(t, dial(t, server.Addr(), waitLimit, false), "p:")
	operator := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer operator.Close()
	ctx := within(t, waitLimit)
	if err := operator.LPush(ctx, s.records+"foreign", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Census(ctx); err == nil || errors.Is(err, idempotency.ErrCounting) {
		t.Fatalf("a record that is a list: %v", err)
	}
	if _, err := s.Census(ctx); !errors.Is(err, idempotency.ErrCounting) {
		t.Errorf("at once: %v", err)
	}
	if left := operator.PTTL(ctx, "p:census:lock").Val(); left <= 0 || left > censusMost/2 {
		t.Errorf("the next one comes in %s", left)
	}
	if err := operator.Del(ctx, s.records+"foreign", "p:census:lock").Err(); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Census(ctx); err != nil || c.Open != 0 {
		t.Errorf("%+v %v", c, err)
	}
}

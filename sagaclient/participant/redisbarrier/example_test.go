package redisbarrier_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/sluice-gateway/sluice/sagaclient/participant"
	"github.com/sluice-gateway/sluice/sagaclient/participant/redisbarrier"
)

// eval stands for a client of Redis. With go-redis:
//
//	func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
//		return client.Eval(ctx, script, keys, args...).Result()
//	}
func eval(context.Context, string, []string, ...any) (any, error) {
	return []any{"executed", "2"}, nil
}

// Stock that is counted in Redis: a reservation that is repeated takes no second unit, one that is
// released gives back what it took, and no unit is taken twice.
func Example() {
	store := redisbarrier.Store{Eval: eval}
	reserve := redisbarrier.NewEffect(`
		local left = tonumber(redis.call('GET', KEYS[1]) or '0')
		if left < tonumber(ARGV[1]) then return refuse('sold-out') end
		redis.call('DECRBY', KEYS[1], ARGV[1])
		return ARGV[1]`)
	release := redisbarrier.NewEffect(`redis.call('INCRBY', KEYS[1], done)`)

	handle := func(effect *redisbarrier.Effect) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			branch, ok, err := participant.FromRequest(r)
			if err != nil || !ok {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			outcome, err := store.Call(r.Context(), branch, effect, []string{"stock:SKU-1"}, 2)
			var refused *redisbarrier.Refused
			switch {
			case errors.As(err, &refused):
				w.WriteHeader(http.StatusConflict)
			case err != nil: // not known; a call that comes again finds out
				w.WriteHeader(http.StatusInternalServerError)
			default:
				w.WriteHeader(outcome.Result.Status())
			}
		}
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/reservations", handle(reserve))
	mux.Handle("POST /v1/reservations/release", handle(release))

	outcome, err := store.Call(context.Background(),
		participant.Barrier{GID: "g0000001", BranchID: "01", Op: "action"}, reserve, []string{"stock:SKU-1"}, 2)
	fmt.Println(outcome.Result, outcome.Value, err)

	// Output:
	// executed 2 <nil>
}

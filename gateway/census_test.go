package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/filters/idempotency"
)

// countedStore is a store whose census a test decides on.
type countedStore struct {
	idempotency.Store
	result idempotency.Census
	err    error // of counts once it fails
	fails  atomic.Bool
}

func (c *countedStore) Census(context.Context) (idempotency.Census, error) {
	if c.fails.Load() {
		return idempotency.Census{}, c.err
	}
	return c.result, nil
}

// TestCensusThatFails: the numbers from before stay, and the operator is told why unless the store is known to be
// down or another gateway counts.
func TestCensusThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		up   bool
		told bool
	}{
		"no permission":           {errors.New("NOPERM scan"), true, true},
		"the store is down":       {errors.New("refused"), false, false},
		"another gateway does it": {idempotency.ErrCounting, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			logs := new(lockedBuffer)
			store := &countedStore{result: idempotency.Census{Open: 3, Unknown: 1, Oldest: time.Now()}, err: c.err}
			var all census
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- all.run(ctx, store, slog.New(slog.NewTextHandler(logs, nil)), func() bool { return c.up })
			}()
			synctest.Wait()
			store.fails.Store(true)
			time.Sleep(3 * censusEvery)
			synctest.Wait()
			if last := all.last.Load(); last == nil || last.Open != 3 || last.Unknown != 1 {
				t.Errorf("%s: the numbers are %+v", name, last)
			}
			if told := strings.Contains(logs.String(), "could not be counted"); told != c.told {
				t.Errorf("%s: told %v, want %v:\n%s", name, told, c.told, logs)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

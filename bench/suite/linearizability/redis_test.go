package linearizability

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// redisStore is the configuration of a store. Its time limit is far above what a busy machine of
// two cores takes, so that the store is in trouble only when the test says so.
func redisStore(s *redistest.Server, timeout time.Duration) string {
	return fmt.Sprintf("{redis: {addresses: [%q], timeout: %v}}", s.Addr(), timeout)
}

// With appendfsync always nothing acknowledged is lost when Redis is killed. With everysec what its
// process has written is safe, but while the disk is busy with an fsync it replies first and writes
// up to two seconds later (aof.c, flushAppendOnlyFile).
func TestRedisIsKilled(t *testing.T) {
	t.Parallel()
	const postponed = 3 * time.Second // and some time for a slow machine
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			redis := redistest.Run(t, redistest.Options{AppendFsync: fsync})
			tr := startTrial(t, 2, "hold", redisStore(redis, 5*time.Second))
			tr.rounds(4, func(int) {
				tr.allServed(20, 150)
				calm, over := tr.history.Trouble(), nothing
				if fsync == "everysec" {
					over = tr.history.Failover(postponed)
				}
				redis.Kill()
				tr.refused(tr.random.IntN(2), 1+tr.random.IntN(20))
				redis.Restart()
				over()
				tr.recovered()
				calm()
			})
			r := tr.end(nothing)
			if r.Responses["503 store-unavailable"] == 0 {
				t.Error("no request was refused while Redis was dead")
			}
		})
	}
}

// A Redis that keeps nothing on disk forgets all when it is killed. The check finds that out: it is
// able to fail.
func TestRedisThatForgetsIsFoundOut(t *testing.T) {
	t.Parallel()
	redis := redistest.Run(t, redistest.Options{})
	tr := startTrial(t, 2, "hold", redisStore(redis, 5*time.Second))
	tr.allServed(50, 150)
	over := tr.history.Trouble()
	redis.Kill()
	tr.refused(0, 1)
	tr.refused(1, 1)
	redis.Restart()
	tr.recovered()
	over()
	tr.load.Stop()
	tr.settle()
	if report, err := tr.history.Check(); err == nil {
		t.Errorf("allowed: %v", report)
	}
}

// Redis stands still for longer than its time limit, and goes on where it was.
func TestRedisIsStopped(t *testing.T) {
	t.Parallel()
	redis := redistest.Run(t, redistest.Options{AppendFsync: "everysec"})
	tr := startTrial(t, 2, "hold", redisStore(redis, 2*time.Second))
	tr.rounds(3, func(int) {
		tr.allServed(20, 150)
		over := tr.history.Trouble()
		redis.Pause()
		tr.refused(0, 1)
		tr.refused(1, 1)
		redis.Resume()
		tr.recovered()
		over()
	})
	tr.end(nothing)
}

// A gateway stands still for longer than its lease while the service responds. It comes back as a
// late owner: where another one has taken over, its end is fenced off; where the outcome is held,
// its response is the true one.
func TestGatewayIsStoppedBeyondItsLease(t *testing.T) {
	t.Parallel()
	for _, onUnknown := range []string{"retry", "hold"} {
		t.Run(onUnknown, func(t *testing.T) {
			// The time limit of the store is far above how long the gateway stands: its calls end
			// well.
			redis := redistest.Run(t, redistest.Options{})
			tr := startTrial(t, 2, onUnknown, redisStore(redis, 30*time.Second))
			tr.rounds(3, func(round int) {
				late := round % 2
				tr.allServed(20, 100)
				request, release := tr.caught(late)
				tr.joined(late, request)
				tr.gateways[late].Signal(syscall.SIGSTOP)
				lapsed := tr.history.now() + int64(lease+lease/2)
				release()
				tr.await(20, "a response by the other gateway after the lease", func(o *Operation) bool {
					return o.Gateway != late && o.Call > lapsed && o.Response.Status != 0
				})
				tr.load.Send(t.Context(), 1-late, requestLimit, request) // under retry this one takes it over
				tr.gateways[late].Signal(syscall.SIGCONT)
			})
			r := tr.end(nothing)
			lost := tr.metric(`sluice_idempotency_claims_lost_total{`)
			t.Logf("%v claims were lost to another owner", lost)
			if onUnknown == "retry" && (r.Retried == 0 || lost == 0) {
				t.Errorf("%d executions were tried again and %v late owners fenced off, want some of both", r.Retried,
					lost)
			}
		})
	}
}

// One of two gateways is killed; the other goes on, and with what was in flight at the dead one
// when its lease is over.
func TestOneOfTwoGatewaysIsKilled(t *testing.T) {
	t.Parallel()
	for _, onUnknown := range []string{"hold", "retry", "probe"} {
		t.Run(onUnknown, func(t *testing.T) {
			redis := redistest.Run(t, redistest.Options{})
			tr := startTrial(t, 2, onUnknown, redisStore(redis, 5*time.Second))
			tr.rounds(4, func(round int) {
				dead := round % 2
				tr.allServed(20, 100)
				_, release := tr.caught(dead)
				tr.gateways[dead].Kill()
				lapsed := tr.history.now() + int64(lease)
				release()
				tr.await(20, "a response by the other gateway after the lease", func(o *Operation) bool {
					return o.Gateway != dead && o.Call > lapsed && o.Response.Status != 0
				})
				tr.gateways[dead].Restart()
			})
			r := tr.end(nothing)
			settled := tr.metric(`sluice_idempotency_probes_total{result="settled"`)
			switch {
			case onUnknown == "probe" && settled == 0:
				t.Error("no probe settled anything")
			case onUnknown == "hold" && r.Responses["409 outcome-unknown"] == 0:
				t.Error("no outcome was unknown")
			case onUnknown == "retry" && r.Retried == 0:
				t.Error("nothing was tried again")
			}
			if n := r.Responses["503 store-unavailable"]; n != 0 {
				t.Errorf("%d refusals although the store was there", n)
			}
		})
	}
}

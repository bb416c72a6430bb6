package linearizability

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-gateway/sluice/bench/kit/harness"
	"github.com/sluice-gateway/sluice/bench/kit/redistest"
)

// A replica takes over from a master. What it had not got is lost, and only that: a key may be
// executed again only over a failover. The gateways go on without a restart.
func TestMasterFailsOver(t *testing.T) {
	t.Parallel()
	kill := func(master *redistest.Server) { master.Kill() }
	t.Run("killed", func(t *testing.T) {
		failOver(t, failover{fail: kill, reach: 5 * time.Second})
	})
	t.Run("killed while the replica lags", func(t *testing.T) {
		r := failOver(t, failover{fail: kill, reach: awaitLimit, before: func(tr *trial, replica *redistest.Server) {
			tell(tr.t, replica, "REPLICAOF", "127.0.0.1", "1") // where nothing listens
			tr.allServed(30, 60)
		}})
		if r.Again == 0 {
			t.Error("the replica lagged behind and nothing was executed again: this history does not show what is lost")
		}
	})
	t.Run("stopped", func(t *testing.T) { // it comes back as a master, until the sentinels tell it otherwise
		failOver(t, failover{
			fail:  func(master *redistest.Server) { master.Pause() },
			heal:  func(master *redistest.Server) { master.Resume() },
			reach: 5 * time.Second,
		})
	})
}

// failover is how a master goes, and comes back while the clients go on.
type failover struct {
	before func(tr *trial, replica *redistest.Server)
	fail   func(master *redistest.Server)
	heal   func(master *redistest.Server) // nil: before the next one
	reach  time.Duration                  // how old steps may be that the replica had not got
}

func failOver(t *testing.T, f failover) Report {
	servers := redistest.RunReplicated(t)
	var addresses []string
	for _, a := range servers.Addrs() {
		addresses = append(addresses, fmt.Sprintf("%q", a))
	}
	store := fmt.Sprintf("{redis: {addresses: [%s], sentinel: {master: %s}, timeout: 2s}}",
		strings.Join(addresses, ", "), servers.Name)
	tr := startTrial(t, 2, "hold", store)
	master, replica := servers.Master, servers.Replica
	failovers := 0
	tr.rounds(1, func(round int) {
		if round > 0 && f.heal == nil {
			master.Restart()
			follows(t, master)
		}
		if round > 0 {
			master, replica = replica, master
		}
		tr.allServed(20, 100)
		if f.before != nil {
			f.before(tr, replica)
		}
		calm, over := tr.history.Trouble(), tr.history.Failover(f.reach)
		f.fail(master)
		failovers++ // which may be over before a gateway has had to refuse anything
		for _, sentinel := range servers.Sentinels {
			agrees(t, sentinel, replica)
		}
		tr.recovered()
		if f.heal != nil {
			f.heal(master)
			follows(t, master)
			tr.recovered()
		}
		over()
		calm()
		tr.allServed(20, 100)
	})
	r := tr.end(nothing)
	counted := tr.metric("sluice_store_failovers_total")
	t.Logf("%d failovers, %v counted by two gateways", failovers, counted)
	if int(counted) < failovers {
		t.Error("not every failover was counted")
	}
	return r
}

// agrees waits until a sentinel takes that server for the master.
func agrees(t *testing.T, sentinel, master *redistest.Server) {
	t.Helper()
	harness.Until(t, awaitLimit, "the sentinel at "+sentinel.Addr()+" has the replica for the master", func() bool {
		return strings.Contains(tell(t, sentinel, "INFO", "sentinel"), "status=ok,address="+master.Addr()+",")
	})
}

// follows waits until a former master has become a replica of the new one.
func follows(t *testing.T, former *redistest.Server) {
	t.Helper()
	harness.Until(t, awaitLimit, "the former master follows the new one", func() bool {
		info := tell(t, former, "INFO", "replication")
		return strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up")
	})
}

// tell sends one command to a server and returns its reply.
func tell(t *testing.T, s *redistest.Server, command ...any) string {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), awaitLimit)
	defer cancel()
	reply, err := client.Do(ctx, command...).Text()
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return reply
}

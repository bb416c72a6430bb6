package redistest

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of masters without replicas. Each has an equal part of the slots; keys
// of the others are served while one is gone.
type Cluster struct {
	t     testing.TB
	Nodes []*Server
}

const slots = 16384

// RunCluster starts a cluster of n masters, which is whole when RunCluster returns. The arguments are further ones of
// redis-server.
func RunCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	var bus []string
	for i := range n {
		port := portOf(t, pick(t))
		bus = append(bus, port)
		s := Run(t, Options{Args: append([]string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-port", port, "--cluster-require-full-coverage", "no"}, args...)})
		s.mustReply(fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*slots/n, (i+1)*slots/n-1), "+OK")
		s.mustReply(fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1), "+OK")
		c.Nodes = append(c.Nodes, s)
	}
	for i, s := range c.Nodes[1:] {
		c.Nodes[0].mustReply(fmt.Sprintf("CLUSTER MEET 127.0.0.1 %s %s", portOf(t, s.addr), bus[i+1]), "+OK")
	}
	for _, s := range c.Nodes {
		s.await("CLUSTER INFO", "cluster_state:ok", fmt.Sprintf("cluster_slots_ok:%d\r", slots),
			fmt.Sprintf("cluster_known_nodes:%d\r", n), fmt.Sprintf("cluster_size:%d\r", n))
	}
	return c
}

// Addrs returns the addresses of the nodes.
func (c *Cluster) Addrs() (addrs []string) {
	for _, s := range c.Nodes {
		addrs = append(addrs, s.addr)
	}
	return addrs
}

// MoveSlot moves a slot with its keys from one node to another one, as redis-cli does. between is
// called when both nodes know of the move and no key has gone yet, and again when all have and the
// move is not over; it may be nil.
func (c *Cluster) MoveSlot(slot, from, to int, between func()) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var clients []*redis.Client
	var ids []string
	for _, n := range []int{from, to} {
		client := redis.NewClient(&redis.Options{Addr: c.Nodes[n].addr})
		defer func() { _ = client.Close() }()
		id, err := client.Do(ctx, "CLUSTER", "MYID").Text()
		if err != nil {
			c.t.Fatalf("redistest: %v", err)
		}
		clients, ids = append(clients, client), append(ids, id)
	}
	source, target := clients[0], clients[1]
	do := func(client *redis.Client, args ...any) {
		c.t.Helper()
		if err := client.Do(ctx, args...).Err(); err != nil {
			c.t.Fatalf("redistest: %v: %v", args, err)
		}
	}
	do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
	do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
	if between != nil {
		between()
	}
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		if err != nil {
			c.t.Fatalf("redistest: keys of slot %d: %v", slot, err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", "127.0.0.1", portOf(c.t, c.Nodes[to].addr), "", 0,
			strconv.Itoa(int(startTimeout.Milliseconds())), "KEYS"}
		for _, key := range keys {
			args = append(args, key)
		}
		do(source, args...)
	}
	if between != nil {
		between()
	}
	do(target, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
	do(source, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
}

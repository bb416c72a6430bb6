package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Replicated is a master, its replica, and sentinels that watch them.
type Replicated struct {
	Name            string // the sentinels' name for the master
	Master, Replica *Server
	Sentinels       []*Server
}

// RunReplicated starts a master with one replica and three sentinels, which take the replica for
// the master when that is gone for half a second. Each has found all the others when RunReplicated
// returns.
func RunReplicated(t testing.TB) *Replicated {
	t.Helper()
	const sentinels = 3
	r := &Replicated{Name: "main", Master: Run(t, Options{})}
	port := portOf(t, r.Master.addr)
	r.Replica = Run(t, Options{Args: []string{"--replicaof", "127.0.0.1", port, "--repl-diskless-sync-delay", "0"}})
	r.Replica.await("INFO replication", "role:slave", "master_link_status:up")
	for range sentinels {
		r.Sentinels = append(r.Sentinels, launch(t, func(own, dir string) []string {
			conf := filepath.Join(dir, "sentinel-"+own+".conf")
			text := fmt.Sprintf(`port %s
bind 127.0.0.1
dir %q
loglevel warning
sentinel monitor %s 127.0.0.1 %s 2
sentinel down-after-milliseconds %s 500
sentinel failover-timeout %s 5000
`, own, dir, r.Name, port, r.Name, r.Name)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatalf("redistest: %v", err)
			}
			return []string{conf, "--sentinel"}
		}))
	}
	for _, s := range r.Sentinels {
		s.await("INFO sentinel", "status=ok", "slaves=1", fmt.Sprintf("sentinels=%d", sentinels))
	}
	return r
}

// Addrs returns the addresses of the sentinels.
func (r *Replicated) Addrs() (addrs []string) {
	for _, s := range r.Sentinels {
		addrs = append(addrs, s.addr)
	}
	return addrs
}

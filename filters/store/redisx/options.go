package redisx

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// poolSizeMax bounds the connections to one node. Batching needs few of them; a node that hangs
// needs more.
const poolSizeMax = 128

// Options say which Redis a [Client] talks to: one server, the master that sentinels name, or a
// cluster.
type Options struct {
	// Addresses are host:port: of the server, of the sentinels, or of some nodes of the cluster. At
	// least one.
	Addresses []string
	// Cluster: the addresses are those of a Redis Cluster.
	Cluster bool
	// Sentinel: the addresses are those of sentinels; nil otherwise.
	Sentinel *Sentinel

	Username, Password string
	// TLS encrypts the connections (TLS 1.2 or later) and verifies the servers against the system's
	// roots.
	TLS bool
	// Timeout bounds each call, connecting included; above 0.
	Timeout time.Duration
	// Dial opens the connections; nil: the net package's own dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Sentinel names the master that the sentinels watch, and what they want to hear before they tell
// its address.
type Sentinel struct {
	Master             string
	Username, Password string
}

// universal translates the options for the library. The deadline of a command is kept, no attempt
// outlasts the timeout, and no command is repeated behind the caller's back: only the caller knows
// whether it may run twice.
func (o Options) universal() *redis.UniversalOptions {
	u := &redis.UniversalOptions{
		Addrs: o.Addresses, IsClusterMode: o.Cluster, Username: o.Username, Password: o.Password,
		PoolSize: poolSizeMax, Dialer: o.Dial,
		ContextTimeoutEnabled: true,
		DialTimeout:           o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		DialerRetries: 1,
		MaxRetries:    -1, // none
		// Of Redis Enterprise only. Where a server does not have it, clients and their lent connections note so in the
		// same memory under different locks (go-redis 9.23).
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if s := o.Sentinel; s != nil {
		u.MasterName, u.SentinelUsername, u.SentinelPassword = s.Master, s.Username, s.Password
	}
	if o.TLS {
		u.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return u
}

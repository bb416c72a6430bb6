package gateway

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/breaker"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/tracing"
	"github.com/sluice-gateway/sluice/gateway/transaction"
	"github.com/sluice-gateway/sluice/gateway/transaction/notify"
	"github.com/sluice-gateway/sluice/sagaclient"
)

// makeBridge makes the bridge to the coordinator. The probes of its breaker pass by that.
func (g *gateway) makeBridge(c *config.DTM) error {
	breaker := new(transaction.CoordinatorBreaker)
	client, err := sagaclient.New(sagaclient.Options{Endpoints: c.Endpoints, Breaker: breaker})
	if err != nil {
		return err
	}
	probe, err := sagaclient.New(sagaclient.Options{Endpoints: c.Endpoints})
	if err != nil {
		return err
	}
	o := g.bridgeOptions(c, client)
	o.Breaker, o.Probe = breaker, probe
	g.bridge = transaction.New(o)
	return nil
}

// bridgeOptions returns what the bridge to the coordinator works with.
func (g *gateway) bridgeOptions(c *config.DTM, client *sagaclient.Client) transaction.Options {
	o := transaction.Options{
		Client: client, Store: g.stores.records, Codec: g.stores.codec,
		BaseURL:    branchBase(c.Branches.Listen, g.addresses.Branches),
		Deployment: c.Name,
		Services:   g, Metrics: g.metrics.transaction(), Logger: g.Logger,
	}
	if c.Branches.Advertise != "" {
		o.BaseURL, o.Advertised = strings.TrimSuffix(c.Branches.Advertise, "/"), true
	}
	if c.Secret != "" {
		o.Secret = []byte(c.Secret)
	}
	return o
}

// branchBase is where the coordinator finds the branch address: the host as it is configured, which
// may be a name that it resolves, with the port that was found.
func branchBase(configured, listening string) string {
	host, _, err := net.SplitHostPort(configured)
	_, port, err2 := net.SplitHostPort(listening)
	if err != nil || err2 != nil || host == "" {
		return "http://" + listening
	}
	return "http://" + net.JoinHostPort(host, port)
}

// CallBranch implements [transaction.Services]: it sends a branch's call through the chain that the
// service has in the engine in force.
func (g *gateway) CallBranch(ctx context.Context, service string, x *filters.Exchange, body []byte) (
	status int, response []byte, outcome filters.Outcome,
) {
	rt := g.engine.Load().branches[service]
	if rt == nil {
		g.Logger.Error("a branch calls a service that is not in the configuration any more",
			"service", service, "gid", x.Logical.Key)
		return 0, nil, filters.NotDispatched
	}
	// Within the branch's lease, whatever the service does behind the head of its response.
	ctx, cancel := context.WithTimeout(ctx, g.LongestCall(service))
	defer cancel()
	x.SetContext(ctx)
	x.BufferBody, x.Received = branchBytesMax, time.Now()
	if g.tracing.On() {
		g.tracing.BeginBranch(x, service)
		defer func() { tracing.EndBranch(x, status, outcome) }()
	}
	rec := &recorder{most: branchBytesMax}
	rt.serve(x, &whole{message.Message{Bytes: body}}, rec)
	if x.Response.Local && !x.Dispatched {
		return x.Response.Status, nil, filters.NotDispatched
	}
	if x.Response.Local { // the gateway's own response to one that did not come
		return x.Response.Status, nil, filters.NoResponse
	}
	if rec.aborted || rec.status == 0 {
		return 0, nil, filters.NoResponse
	}
	return rec.status, rec.body, filters.Completed
}

// Reserve implements [transaction.Services]: the filters of the chains to the services are asked, by
// the list of the policies. A service that is not in the configuration any more keeps no place.
func (g *gateway) Reserve(x *filters.Exchange, services []string) ([]*filters.Reservation, *filters.Reply) {
	branches := g.engine.Load().branches
	chains := make([]*filters.Chain, len(services))
	for i, name := range services {
		if rt := branches[name]; rt != nil {
			chains[i] = rt.chain
		}
	}
	return filters.Reserve(x, chains)
}

const branchBytesMax = 64 << 10 // of a branch's response that are read

// whole is the inbound of a request that the gateway itself makes.
type whole struct{ message message.Message }

func (w *whole) Message() (*message.Message, error) { return &w.message, nil }

// Steps implements [transaction.Services]: the names of the steps of the transaction that a route
// leads to in the configuration in force.
func (g *gateway) Steps(route string) (names []string, ok bool) {
	cfg := g.engine.Load().cfg
	for _, r := range cfg.Routes {
		if r.Name == route && r.Transaction != "" {
			s := transactionSettings(r.Transaction, cfg.Transactions[r.Transaction], r.Status)
			return s.StepNames(), true
		}
	}
	return nil, false
}

// RetryMax implements [transaction.Services].
func (g *gateway) RetryMax(route string) time.Duration {
	cfg := g.engine.Load().cfg
	for _, r := range cfg.Routes {
		if r.Name == route && r.Transaction != "" {
			return time.Duration(cfg.Transactions[r.Transaction].Retry.Max)
		}
	}
	return 0
}

// Notify implements [transaction.Services].
func (g *gateway) Notify(route string) (notify.Receiver, bool) {
	cfg := g.engine.Load().cfg
	for _, r := range cfg.Routes {
		if r.Name != route || r.Transaction == "" {
			continue
		}
		if to := cfg.Transactions[r.Transaction].Notify; to != nil {
			return notify.Receiver{URL: to.URL, Secret: []byte(to.Secret), Private: to.Private}, true
		}
	}
	return notify.Receiver{}, false
}

// NotifyRoutes implements [transaction.Services].
func (g *gateway) NotifyRoutes() (routes []string) {
	cfg := g.engine.Load().cfg
	for _, r := range cfg.Routes {
		if r.Transaction != "" && cfg.Transactions[r.Transaction].Notify != nil {
			routes = append(routes, r.Name)
		}
	}
	return routes
}

// Open implements [transaction.Services].
func (g *gateway) Open(service string) bool {
	b, ok := g.policies.Breakers()[service]
	return ok && b.State != breaker.Closed.String()
}

// LongestCall implements [transaction.Services].
func (g *gateway) LongestCall(service string) time.Duration {
	if c := g.engine.Load().cfg.Services[service]; c != nil {
		return policy.LongestCall(c)
	}
	return time.Second
}

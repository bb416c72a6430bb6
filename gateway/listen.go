package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/budget"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/proxyproto"
)

// clients is what the listeners for clients have in common.
type clientListeners struct {
	listen     *config.Listen
	dispatcher *dispatcher
	http2      *http2Handler
	slots      *http1.Slots
	pipes      *http1.Pipes
	budget     *budget.Budget
	cuts       *message.Cuts
	logger     *slog.Logger
}

func (g *gateway) newClientListeners(cfg *config.Config) *clientListeners {
	f := &clientListeners{
		listen:     &cfg.Listen,
		dispatcher: &dispatcher{engine: g.engine.Load, overload: g.overload, access: &g.access},
		budget:     g.budget, cuts: &message.Cuts{}, logger: g.Logger,
	}
	f.slots, f.pipes = http1.NewSlots(g.descriptors.clients), http1.NewPipes(g.descriptors.pipes)
	f.slots.Cuts = f.cuts
	f.http2 = newHTTP2Handler(f.dispatcher, f.listen, f.cuts, g.Logger)
	return f
}

// server makes the server of one listener; without tlsConfig one without TLS.
func (f *clientListeners) server(tlsConfig func() *tls.Config) *http1.Server {
	o := http1.Options{
		Handler:       f.dispatcher,
		HeaderTimeout: time.Duration(f.listen.HeaderTimeout), IdleTimeout: time.Duration(f.listen.IdleTimeout),
		MaxHeader: int(f.listen.MaxHeader), Slots: f.slots, Budget: f.budget, Pipes: f.pipes, TLS: tlsConfig,
		HTTP2: f.http2.serve, MinRate: int64(f.listen.MinRate), Cuts: f.cuts, Logger: f.logger,
	}
	if len(f.listen.ProxyProtocol) > 0 {
		o.Accepted = f.proxied
	}
	return http1.New(o)
}

// proxied reads the header of the PROXY protocol from peers that begin with one, and returns for
// whom the connection is held.
func (f *clientListeners) proxied(c net.Conn, peer netip.Addr) (netip.Addr, error) {
	if !contains(f.listen.ProxyProtocol, peer) {
		return peer, nil
	}
	h, err := proxyproto.ReadHeader(c)
	if err != nil {
		if !errors.Is(err, io.EOF) { // a check whether the port is open sends nothing
			f.cuts.Refused(f.logger, message.RefusedProxyProtocol, peer.String(), err)
		}
		return peer, err
	}
	if a := h.Source.Addr(); a.IsValid() {
		return a.Unmap().WithZone(""), nil
	}
	return peer, nil // a check by the proxy itself
}

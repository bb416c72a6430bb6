package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/plan"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/internalserver"
	"github.com/sluice-gateway/sluice/gateway/metric"
	"github.com/sluice-gateway/sluice/gateway/systemd"
)

// first returns the first configuration of the source. While one is long in coming the admin address is served, so
// that whoever asks is told what is waited for; clients find nobody listening.
func first(ctx context.Context, o *Options) (*config.Config, error) {
	w, ok := o.Source.(source.Waiting)
	if !ok {
		return o.Source.First(ctx)
	}
	own, err := w.Own()
	if err != nil {
		return nil, err
	}
	u := &unconfigured{Options: o, own: own, began: time.Now()}
	close, err := u.serve()
	if err != nil {
		return nil, err
	}
	defer close()
	if o.Manager != nil {
		waiting, done := context.WithCancel(ctx)
		defer done()
		go u.tellManager(waiting)
	}
	return o.Source.First(ctx)
}

// unconfigured is a gateway that has no configuration yet, as the admin address sees it.
type unconfigured struct {
	*Options
	own   *config.Config
	began time.Time
}

// Unready implements [admin.Gateway].
func (u *unconfigured) Unready() string {
	s := controlStatus(u.Source)
	switch {
	case s == nil:
		return "not configured"
	case s.LastNack != nil:
		return "not configured: what " + s.LastNack.Control + " has sent was refused: " + s.LastNack.Reason
	case s.Connected != "":
		return "not configured: " + s.Connected + " is connected and has sent no configuration"
	case s.Fault != "":
		return "not configured: no control plane can be reached: " + s.Fault
	}
	return "not configured: no control plane has answered: " + strings.Join(s.Servers, ", ")
}

// Config implements [admin.Gateway].
func (u *unconfigured) Config() *config.Config { return u.own }

// CheckConfig implements [admin.Gateway].
func (u *unconfigured) CheckConfig([]config.File) (plan.Check, error) {
	return plan.Check{}, errNoComposer
}

// Status implements [admin.Gateway].
func (u *unconfigured) Status() admin.Status {
	return admin.Status{
		Build: u.Build, Since: wholeSeconds(u.began), Reason: u.Unready(),
		Addresses:     admin.Addresses{Admin: u.own.Admin.Address, Probes: u.own.Admin.Probes},
		Configuration: admin.ConfigurationStatus{Files: u.own.Files()}, Control: controlStatus(u.Source),
		Routes: []admin.RouteStatus{}, Services: []admin.ServiceStatus{},
	}
}

// serve serves the admin address and that of the probes until close.
func (u *unconfigured) serve() (close func(), err error) {
	registry := metric.New()
	if c, ok := u.Source.(metric.Collector); ok {
		registry.Add(c)
	}
	o := admin.Options{Gateway: u, Metrics: registry, Logger: u.Logger}
	var stop []func()
	var running sync.WaitGroup
	close = func() {
		for _, s := range stop {
			s()
		}
		running.Wait()
	}
	for _, on := range []struct {
		name, address string
		handler       http.Handler
	}{
		{systemd.Admin, u.own.Admin.Address, admin.NewWaiting(o)},
		{systemd.Probes, u.own.Admin.Probes, admin.NewProbes(o)},
	} {
		if on.address == "" {
			continue
		}
		l, err := u.Sockets.Listen(on.name, on.address)
		if err != nil {
			close()
			return nil, err
		}
		srv, bounded := internalserver.New(on.handler, l, waitingConnectionsMax, u.Logger)
		stop = append(stop, func() { _ = srv.Close() }) // whoever asks asks again
		running.Go(func() { serveUntilClosed(srv, bounded, u.Logger) })
	}
	return close, nil
}

// waitingConnectionsMax bounds the connections of those who ask meanwhile.
const waitingConnectionsMax = 64

func serveUntilClosed(srv *http.Server, l net.Listener, logger *slog.Logger) {
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		logger.Error("the admin address is no longer served", "address", l.Addr().String(), "error", err)
	}
}

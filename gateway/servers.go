package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/envoy"
	"github.com/sluice-gateway/sluice/gateway/http1"
	"github.com/sluice-gateway/sluice/gateway/internalserver"
	"github.com/sluice-gateway/sluice/gateway/systemd"
)

// servers are the listeners and what serves on them.
type servers struct {
	list    []served
	clients *clientListeners
}

type served struct {
	server   server
	listener net.Listener
	last     bool // stays open through the drain: admin, and the branch calls that requests in flight wait for
}

// server is an [http1.Server], a branchServer, an [http.Server] or an [envoy.Server].
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func (s *servers) add(srv server, l net.Listener, last bool) {
	s.list = append(s.list, served{srv, l, last})
}

// close ends what is still open after a drain, or of a start that failed.
func (s *servers) close() {
	for _, sv := range s.list {
		switch srv := sv.server.(type) {
		case *http1.Server:
			srv.Close()
		case *branchServer:
			srv.Close()
		case *http.Server:
			srv.Close()
		case *envoy.Server:
			srv.Close()
		}
	}
	if s.clients != nil {
		s.clients.http2.server.Close()
		s.clients.pipes.Close()
	}
}

// open returns how many connections of clients are open, and how many of them speak HTTP/2.
func (s *servers) open() (all, http2 int) {
	for _, sv := range s.list {
		if srv, ok := sv.server.(*http1.Server); ok {
			all += srv.Open()
		}
	}
	return all, s.clients.http2.server.Open()
}

// leave has clients go elsewhere with their next requests.
func (s *servers) leave() {
	for _, sv := range s.list {
		if srv, ok := sv.server.(*http1.Server); ok {
			srv.DisableKeepAlives()
		}
	}
}

// serve starts all and returns where the first failure comes out.
func (s *servers) serve() <-chan error {
	failed := make(chan error, len(s.list))
	for _, sv := range s.list {
		go func() {
			if err := sv.server.Serve(sv.listener); !errors.Is(err, http.ErrServerClosed) &&
				!errors.Is(err, http1.ErrClosed) {
				failed <- fmt.Errorf("gateway: serving on %s: %w", sv.listener.Addr(), err)
			}
		}()
	}
	return failed
}

// shutdown closes the listeners of one kind and waits for their requests.
func (s *servers) shutdown(ctx context.Context, last bool) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.list))
	for i, sv := range s.list {
		if sv.last == last {
			wg.Go(func() { errs[i] = sv.server.Shutdown(ctx) })
		}
	}
	if !last && s.clients != nil {
		// tells the clients to go; the connections are waited for above
		wg.Go(func() { _ = s.clients.http2.server.Shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// listeners are the open addresses; nil where the configuration has none.
type listeners struct{ http, https, admin, probes, branches, envoy net.Listener }

// listen opens every address before anything is served, so that a busy one is a clean failure. What the process was
// started with is taken where it fits.
func listen(cfg *config.Config, envoy bool, inherited *systemd.Sockets) (*listeners, error) {
	l := &listeners{}
	open := func(into *net.Listener, name, setting, address string) (err error) {
		if *into, err = inherited.Listen(name, address); err != nil {
			l.close()
			return fmt.Errorf("gateway: %s: %w", setting, err)
		}
		return nil
	}
	if cfg.Listen.HTTP != config.Off {
		if err := open(&l.http, systemd.HTTP, "listen.http", cfg.Listen.HTTP); err != nil {
			return nil, err
		}
	}
	if h := cfg.Listen.HTTPS; h != nil {
		if err := open(&l.https, systemd.HTTPS, "listen.https", h.Address); err != nil {
			return nil, err
		}
	}
	if envoy {
		if err := open(&l.envoy, systemd.Envoy, "envoy.listen", cfg.Envoy.Listen.Address); err != nil {
			return nil, err
		}
	}
	if err := open(&l.admin, systemd.Admin, "admin.address", cfg.Admin.Address); err != nil {
		return nil, err
	}
	if cfg.Admin.Probes != "" {
		if err := open(&l.probes, systemd.Probes, "admin.probes", cfg.Admin.Probes); err != nil {
			return nil, err
		}
	}
	if cfg.Coordinator != nil {
		address := cfg.Coordinator.DTM.Branches.Listen
		if err := open(&l.branches, systemd.Branches, "coordinator.dtm.branches", address); err != nil {
			return nil, fmt.Errorf("%w: %w", errBranches, err)
		}
	}
	return l, nil
}

// errBranches says that the one address to listen on that is not a gateway's own cannot be.
var errBranches = errors.New("gateway: branch calls cannot be listened for")

func (l *listeners) close() {
	for _, one := range []net.Listener{l.http, l.https, l.admin, l.probes, l.branches, l.envoy} {
		if one != nil {
			one.Close()
		}
	}
}

func (l *listeners) addresses() Addresses {
	text := func(one net.Listener) string {
		if one == nil {
			return ""
		}
		return one.Addr().String()
	}
	return Addresses{
		HTTP: text(l.http), HTTPS: text(l.https), Admin: text(l.admin), Probes: text(l.probes),
		Branches: text(l.branches), Envoy: text(l.envoy),
	}
}

// servers makes what serves on the listeners.
func (g *gateway) servers(cfg *config.Config, l *listeners) *servers {
	s := &servers{}
	if l.envoy != nil {
		s.add(g.newEnvoyServer(cfg), l.envoy, false)
	} else {
		s.clients = g.newClientListeners(cfg)
	}
	if l.http != nil {
		s.add(s.clients.server(nil), l.http, false)
	}
	if l.https != nil {
		s.add(s.clients.server(g.tls.Load), l.https, false) // each handshake asks anew, so a reload renews it
	}
	internal := func(h http.Handler, l net.Listener, connections int) {
		srv, bounded := internalserver.New(h, l, connections, g.Logger)
		s.add(srv, bounded, true)
	}
	options := g.adminOptions(cfg)
	internal(admin.New(options), l.admin, g.descriptors.internal)
	if l.probes != nil {
		internal(admin.NewProbes(options), l.probes, g.descriptors.internal)
	}
	if l.branches != nil {
		s.add(g.newBranchServer(), l.branches, true)
	}
	return s
}

package xds

import (
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/gateway/admin/adminguard"
	"github.com/sluice-gateway/sluice/gateway/internalserver"
)

// operatorConnections bounds the connections to one of the operators' addresses.
const operatorConnections = 256

// operatorServer serves one of the operators' addresses.
type operatorServer struct {
	*http.Server
	listener net.Listener
}

// operatorServers makes what serves health, metrics and status.
func (c *controlPlane) operatorServers(l *listeners) (list []operatorServer) {
	add := func(h http.Handler, l net.Listener) {
		srv, bounded := internalserver.New(h, l, operatorConnections, c.Logger)
		list = append(list, operatorServer{srv, bounded})
	}
	add(c.adminHandler(), l.admin)
	if l.probes != nil {
		mux := http.NewServeMux()
		adminguard.AddProbes(mux, c.Unready, c.metrics.registry)
		add(mux, l.probes)
	}
	return list
}

func (c *controlPlane) adminHandler() http.Handler {
	mux := http.NewServeMux()
	adminguard.AddProbes(mux, c.Unready, c.metrics.registry)
	mux.HandleFunc("GET /api/status", func(w http.ResponseWriter, r *http.Request) {
		adminguard.WriteJSON(w, http.StatusOK, c.Status())
	})
	mux.HandleFunc("GET /api/config", func(w http.ResponseWriter, r *http.Request) {
		b, err := c.applied.Load().config.Redacted()
		if err != nil {
			adminguard.WriteProblem(w, http.StatusInternalServerError, err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(b) // a client that does not read it has gone
	})
	adminguard.AddConfigCheck(mux, c.checkConfig)
	if c.applied.Load().config.Admin.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // the named ones too
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	inForce := func() *config.Admin { return &c.applied.Load().config.Admin }
	return adminguard.New(inForce, c.Logger, mux)
}

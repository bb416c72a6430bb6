package proxy

import "github.com/sluice-gateway/sluice/bench/load/measure"

// Report is what one run found. Times are in microseconds.
type Report struct {
	measure.Setting
	Connections int              `json:"connections"`
	Idle        int              `json:"idleConnections"`
	Rate        int              `json:"rate"`
	Loads       []measure.Load   `json:"loads"`
	Contenders  []measure.Result `json:"contenders"`
	Marks       []measure.Mark   `json:"marks"`
}

// figure returns a contender's figure of a load, nil without.
func (r *Report) figure(name string, load measure.Load) *measure.Figure {
	return measure.FigureOf(r.Contenders, name, load)
}

// relate fills in the ratios.
func (r *Report) relate() {
	for i := range r.Contenders {
		for load, f := range r.Contenders[i].Figures {
			if f.ToNginx = measure.Ratio(f, r.figure(nginx, load)); f.ToNginx == nil {
				f.ToNginx = measure.Ratio(f, r.figure(nginxTLS, load))
			}
			f.ToRelay = measure.Ratio(f, r.figure(relay, load))
		}
	}
}

const (
	idleKiBMax    = 6
	idleTLSKiBMax = 8
	// mallocsSlack is what the process itself may allocate a request: timers, collections, its own
	// metrics. The promise is held to the object in the gateway's tests.
	mallocsSlack = 0.1
)

// judge fills in the marks.
func (r *Report) judge() {
	ratios := []struct {
		what, name, to string
		load           measure.Load
		limit          float64
	}{
		{"plain route, GET", gateway, nginx, loadGet, 1},
		{"plain route, POST", gateway, nginx, loadPost, 1},
		{"all filters, GET", gatewayFilters, nginxLimit, loadGet, 1},
		{"all filters, keyed POST", gatewayFilters, nginxLimit, loadPost, 1.2},
		{"plain route, 64 KiB responses", gateway, nginx, loadBig, 0.7},
		{"plain route, 1 MiB responses", gateway, nginx, loadHuge, 0.5},
		{"HTTP/2", gateway, reverseProxy, loadH2, 0.6},
		{"gRPC", gatewayH2, reverseH2, loadGRPC, 0.5},
		{"HTTPS GET", gatewayTLS, reverseTLS, loadTLS, 0.6},
		{"HTTPS GET", gatewayTLS, nginxTLS, loadTLS, 1.2},
		{"HTTPS, 64 KiB responses", gatewayTLS, reverseTLS, loadTLSBig, 0.8},
		{"HTTPS, 64 KiB responses", gatewayTLS, nginxTLS, loadTLSBig, 1},
		{"HTTP/2 with TLS", gatewayTLS, reverseTLS, loadTLSH2, 0.6},
	}
	for _, m := range ratios {
		f, to := r.figure(m.name, m.load), r.figure(m.to, m.load)
		r.mark(measure.Mark{What: m.what + ": CPU against " + m.to, Limit: m.limit, Unit: "×", Rounds: measure.Ratios(f,
			to)}, 0, f, to)
	}
	for _, m := range []struct {
		what  string
		load  measure.Load
		limit float64
	}{{"a GET", loadGet, 0}, {"a keyed POST", loadPost, 3}} {
		mark := measure.Mark{What: "all filters: allocations " + m.what, Limit: m.limit}
		f := r.figure(gatewayFilters, m.load)
		if f != nil {
			mark.Got = f.Mallocs
		}
		r.mark(mark, mallocsSlack, f)
	}
	for _, m := range []struct {
		what, name string
		limit      float64
	}{
		{"memory an idle connection", gateway, idleKiBMax},
		{"memory an idle TLS connection", gatewayTLS, idleTLSKiBMax},
	} {
		idle := measure.Mark{What: m.what, Limit: m.limit, Unit: " KiB"}
		for i := range r.Contenders {
			if c := &r.Contenders[i]; c.Name == m.name {
				idle.Got = kib(c.IdleBytes)
			}
		}
		r.mark(idle, 0)
	}
	r.Withhold(r.Marks)
}

// mark adds a mark.
func (r *Report) mark(m measure.Mark, slack float64, figures ...*measure.Figure) {
	r.Marks = append(r.Marks, m.Judged(slack, figures...))
}

package gateway

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/filters/idempotency"
	"github.com/sluice-gateway/sluice/filters/ref"
	"github.com/sluice-gateway/sluice/gateway/message"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/template"
)

// prober asks the service to which a request went what became of it, through the service's breaker. The
// service sees a request of the one who asks: its fields but those that belong to a body or a
// condition, the key that it was sent, and as Sluice-Attempt the attempt that is asked about.
type prober struct {
	branches map[string]*route          // as branch calls take it to the service
	services map[string]*config.Service // whose longest call bounds the whole: nobody else ends a body that trickles
	method   string
	path     ref.Template
	most     int // bytes of a response's body
}

func newProber(
	branches map[string]*route, services map[string]*config.Service, p *config.Probe, most int64,
) *prober {
	return &prober{branches: branches, services: services, method: p.Method, path: p.Path, most: int(most)}
}

// Probe implements [idempotency.Prober].
func (p *prober) Probe(x *filters.Exchange, service string, attempt int) (idempotency.Response, bool) {
	service = cmp.Or(service, x.LeadsTo())
	rt := p.branches[service]
	if rt == nil { // it is not in the configuration any more: nobody can be asked
		return idempotency.Response{}, false
	}
	path, query, err := template.Target(p.path, x)
	if err != nil { // the request lacks what the path needs: nobody can be asked
		return idempotency.Response{}, false
	}
	ctx, cancel := context.WithTimeout(x.Context(), policy.LongestCall(p.services[service]))
	defer cancel()
	ask := new(filters.Exchange)
	ask.Begin(ctx, nil)
	ask.Method, ask.Scheme, ask.Version, ask.Host, ask.Path, ask.RawQuery = p.method, x.Scheme, x.Version, x.Host,
		path, query
	ask.Peer, ask.Client, ask.Prefix6, ask.Received = x.Peer, x.Client, x.Prefix6, time.Now()
	ask.Route, ask.Principal, ask.Call = x.Route, x.Principal, filters.ProbeCall
	ask.Trace = x.Trace
	for _, f := range x.Header {
		if !ofTheBody(f.Name) {
			ask.Header = append(ask.Header, f)
		}
	}
	ask.Inject = append(ask.Inject, x.Inject...)
	ask.Inject.Set("Idempotency-Key", x.Logical.Key)
	ask.Inject.Set("Sluice-Attempt", strconv.Itoa(attempt))
	ask.Inject.Set("Sluice-Principal", x.Principal)
	response := recorder{most: p.most}
	rt.serve(ask, &whole{message.Message{}}, &response)
	if ask.Response.Local || response.aborted || response.status == 0 {
		return idempotency.Response{}, false
	}
	return idempotency.Response{Status: response.status, Header: response.header, Body: response.body,
		Replayable: !response.cut}, true
}

// ofTheBody: a field that says something of the request's body, or a condition on it, and nothing
// of who asks.
func ofTheBody(name string) bool {
	if filters.HasNamePrefix(name, "Content-") || filters.HasNamePrefix(name, "If-") || message.HopByHop(name) {
		return true
	}
	for _, n := range [...]string{"Expect", "Range", "Digest", "Accept-Encoding"} {
		if filters.EqualName(name, n) {
			return true
		}
	}
	return false
}

// recorder is the outbound of a request that the gateway itself makes: it keeps the response.
type recorder struct {
	most    int // bytes of the body that are kept
	status  int
	header  filters.Header
	body    []byte
	cut     bool // there was more
	aborted bool
}

func (r *recorder) Head(status int, h filters.Header, _ int64) {
	r.status, r.header = status, h.Clone()
	for i := range r.header { // which lie in the connection's buffers
		r.header[i] = filters.Field{Name: strings.Clone(r.header[i].Name), Value: strings.Clone(r.header[i].Value)}
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	keep := min(len(p), r.most-len(r.body))
	r.body = append(r.body, p[:keep]...)
	r.cut = r.cut || keep < len(p)
	return len(p), nil
}

func (r *recorder) Flush()                 {}
func (r *recorder) Trailer(filters.Header) {}
func (r *recorder) CloseAfter()            {}
func (r *recorder) Abort()                 { r.aborted = true }

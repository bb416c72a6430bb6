package gateway

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/http2"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// http2Handler serves the connections that speak HTTP/2. Their requests take the same way as those
// of HTTP/1.1.
type http2Handler struct {
	dispatcher *dispatcher
	server     *http2.Server
}

// streamsMax is how many requests one connection may have under way.
const streamsMax = 250

func newHTTP2Handler(
	d *dispatcher, listen *config.Listen, cuts *message.Cuts, logger *slog.Logger,
) *http2Handler {
	s := &http2Handler{dispatcher: d}
	s.server = http2.New(http2.Options{
		Handler: s, HeaderTimeout: time.Duration(listen.HeaderTimeout), IdleTimeout: time.Duration(listen.IdleTimeout),
		MaxHeader: int(listen.MaxHeader), MaxStreams: streamsMax,
		MinRate: int64(listen.MinRate), Cuts: cuts, Logger: logger,
	})
	return s
}

// serve takes a connection over.
func (s *http2Handler) serve(c net.Conn) { s.server.Serve(c) }

// Serve implements [http2.Handler].
func (s *http2Handler) Serve(r *http2.Stream) {
	access := s.dispatcher.access
	l := access.begin(&r.Exchange)
	s.dispatch(r)
	s.dispatcher.engine().tracing.EndRequest(&r.Exchange)
	if l != nil {
		access.end(l, &r.Exchange, r)
	}
}

func (s *http2Handler) dispatch(r *http2.Stream) {
	e := s.dispatcher.engine()
	x := &r.Exchange
	r.LimitBody(int64(e.cfg.Listen.MaxBody))
	reply := downgrade(x, e.cfg.Listen.MaxHeader)
	switch {
	case r.TooLong():
		reply = headTooLong(x, e.cfg.Listen.MaxHeader)
	case reply == nil && r.ExpectsMore():
		reply = refusal(filters.ExpectationFailed, "The expectation is not 100-continue.")
	}
	if reply != nil {
		e.refuse(x, r, reply)
		return
	}
	s.dispatcher.dispatch(e, x, r)
}

// downgrade refuses what HTTP/2 carries and HTTP/1.1 cannot, a space in the path for instance: a
// service would read something else than what was routed (RFC 9113 §8.2.1, §8.3.1 and §10.3).
// Malformed messages have been refused before.
func downgrade(x *filters.Exchange, headerMax config.Size) *filters.Reply {
	if headerBytes(x) > int64(headerMax) {
		return headTooLong(x, headerMax)
	}
	fault := ""
	switch {
	case !message.Token(x.Method):
		fault = "The method is not a token."
	case x.Method == http.MethodConnect || x.Method == http.MethodTrace:
		return filters.RefuseAs(http.StatusNotImplemented, filters.BadRequest, filters.Problem{
			Detail: "This is a gateway: it opens no tunnels and does not trace.",
		})
	case !message.Visible(x.Path) || !message.Visible(x.RawQuery) ||
		strings.Contains(x.Path, "#") || strings.Contains(x.RawQuery, "#"):
		fault = "The request target has a byte that it cannot have."
	case x.Host == "" || !message.ValidHost(x.Host):
		fault = "The host is missing or is not one."
	}
	hosts := 0
	for i := range x.Header {
		if f := &x.Header[i]; filters.EqualName(f.Name, "Host") {
			if hosts++; hosts > 1 || !strings.EqualFold(f.Value, x.Host) { // beside :authority
				fault = "There are several hosts."
			}
		}
	}
	x.Header.DelFunc(message.HopByHop)
	if fault != "" {
		return filters.Refuse(filters.BadRequest, filters.Problem{Detail: fault})
	}
	return nil
}

// headTooLong says what is too long, as HTTP/1.1 would: the target or the fields. A target that is
// not there did not fit.
func headTooLong(x *filters.Exchange, limit config.Size) *filters.Reply {
	if n := len(x.Path) + len(x.RawQuery); n == 0 || n > int(limit)/2 {
		return filters.RefuseAs(http.StatusRequestURITooLong, filters.HeaderTooLarge, filters.Problem{
			Detail: "The request target is too long.",
		})
	}
	return headerTooLong(limit)
}

func headerBytes(x *filters.Exchange) int64 {
	n := len(x.Method) + len(x.Path) + len(x.RawQuery) + len(x.Host) + 16
	for i := range x.Header {
		n += len(x.Header[i].Name) + len(x.Header[i].Value) + 4
	}
	return int64(n)
}

package envoy

import (
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/message"
)

// What an Envoy's configuration sends along with a stream, as fields of its head (grpc_initial_metadata).
const (
	// RouteKey names the route, so that Envoy's choice is the one that counts.
	RouteKey = "x-sluice-route"
	// PeerKey is the address of the connection that the client's request came by:
	// %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%. Without it the attribute source.address is taken.
	PeerKey = "x-sluice-peer"
)

// open takes the head of the request.
func (r *Request) open(m *incoming) {
	x := &r.Exchange
	x.Begin(r.ctx, r.load)
	x.Received, x.Version, x.Scheme = time.Now(), "1.1", "http"
	r.waits, r.ended = requestHead, m.ends
	ctx := r.stream.Context()
	if v := metadata.ValueFromIncomingContext(ctx, RouteKey); len(v) > 0 {
		x.Route = v[0]
	}
	if v := metadata.ValueFromIncomingContext(ctx, PeerKey); len(v) > 0 {
		x.Peer, _ = peerOf(v[0])
	}
	if !x.Peer.IsValid() {
		x.Peer, _ = peerOf(m.attributes.source)
	}
	switch m.attributes.protocol {
	case "HTTP/1.0":
		x.Version = "1.0"
	case "HTTP/2", "HTTP/3":
		x.Version = "2"
	}
	if x.Peer.IsValid() {
		r.peer = x.Text(x.Peer.AppendTo(x.Scratch()))
	} else {
		x.Peer = netip.Addr{}
		r.server.warn(r.server.noPeer, "Envoy does not say who asks: request_attributes needs source.address, "+
			"or grpc_initial_metadata "+PeerKey+"; where a key or a limit rests on the client's address its "+
			"requests are "+
			"refused with 400")
	}
	r.account = r.server.Budget.Account(x.Peer)
	r.readHead(m.fields)
}

// readHead takes the fields of the request's head.
func (r *Request) readHead(h filters.Header) {
	x := &r.Exchange
	cookies, kept := 0, r.request[:0]
	for _, f := range h {
		if f.Name != "" && f.Name[0] == ':' {
			r.readPseudo(f)
			continue
		}
		kept = append(kept, f)
		switch message.KindOf(f.Name) {
		case message.ContentLength:
			if n, ok := message.ParseLength(f.Value); ok {
				r.declared = n
			}
		case message.Expect:
			r.expectsMore = r.expectsMore || !filters.EqualName(f.Value, "100-continue")
		case message.Ordinary:
			if f.Name == "cookie" {
				cookies++
			}
		}
	}
	r.request = kept
	x.Header = append(x.Header[:0], kept...)
	if cookies > 1 {
		message.JoinCookies(&x.Header)
	}
	if x.IsGRPC() {
		x.Version = "2"
	}
	r.dropOwnHop()
}

func (r *Request) readPseudo(f filters.Field) {
	x := &r.Exchange
	switch f.Name {
	case ":method":
		x.Method = f.Value
	case ":scheme":
		x.Scheme = f.Value
	case ":authority":
		x.Host = f.Value
	case ":path":
		x.Path, x.RawQuery, r.query = strings.Cut(f.Value, "?")
		r.path = x.Path
	}
}

// dropOwnHop takes the address of the client's connection from the end of X-Forwarded-For, where Envoy has
// appended it (use_remote_address): what is left is what came by that connection, as the engine reads it.
func (r *Request) dropOwnHop() {
	x := &r.Exchange
	for i := len(x.Header) - 1; i >= 0; i-- {
		f := &x.Header[i]
		if !filters.EqualName(f.Name, "X-Forwarded-For") {
			continue
		}
		before, last := "", f.Value
		if j := strings.LastIndexByte(f.Value, ','); j >= 0 {
			before, last = f.Value[:j], f.Value[j+1:]
		}
		if a, ok := peerOf(strings.Trim(last, " \t")); !ok || a != x.Peer {
			return
		}
		if before == "" {
			x.Header = append(x.Header[:i], x.Header[i+1:]...)
		} else {
			f.Value = before
		}
		return
	}
}

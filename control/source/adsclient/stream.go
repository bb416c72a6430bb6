package adsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/control/nativedialect"
)

var (
	errRenewed  = errors.New("the connection is made anew")
	errSilent   = fmt.Errorf("no configuration within %s", firstResponseMax)
	errUnread   = errors.New("it does not read what it is sent")
	errNotLocal = errors.New("without certificates (control.cert and control.key of the bootstrap) only a control " +
		"plane on this machine is connected to: a configuration may have secrets")
)

type deltaStream = discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

// session is one stream.
type session struct {
	client *Client
	server string
	end    context.CancelCauseFunc

	mu        sync.Mutex
	wake      chan struct{} // has room for one: something waits to be sent
	out       []*discovery.DeltaDiscoveryRequest
	endpoints bool            // the first request for endpoints has been made
	left      map[string]bool // services whose endpoints were asked for on the stream and are no more
}

// stream keeps one stream until it ends, and returns why it did.
func (c *Client) stream(ctx context.Context, server string) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	conn, err := c.connect(server)
	if err != nil {
		return err
	}
	defer conn.Close() // nothing is lost: the stream has ended
	stub := discovery.NewAggregatedDiscoveryServiceClient(conn)
	stream, err := stub.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	s := &session{client: c, server: server, end: end, wake: make(chan struct{}, 1)}
	c.begin(s)
	var work sync.WaitGroup
	defer work.Wait()
	defer end(nil) // before it is waited for
	work.Go(func() { s.write(ctx, stream) })
	work.Go(func() { c.report(ctx, conn) })
	stopTimers := s.watch(ctx)
	defer stopTimers()
	err = s.read(ctx, stream)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (c *Client) node() *core.Node {
	return &core.Node{
		Id: c.Node, UserAgentName: nativedialect.UserAgent,
		UserAgentVersionType: &core.Node_UserAgentVersion{UserAgentVersion: c.Build},
	}
}

// connect makes the connection of one stream; it is dialled when the stream begins.
func (c *Client) connect(server string) (*grpc.ClientConn, error) {
	dial, transport := local(c.dialer()), insecure.NewCredentials()
	settings, err := c.TLS()
	if err != nil {
		return nil, err
	}
	if settings != nil {
		dial, transport = c.dialer(), credentials.NewTLS(withName(settings, server))
	}
	return grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(transport), grpc.WithContextDialer(dial),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: c.keepAlive(), Timeout: keepAliveTimeout}),
	)
}

// withName has a server's certificate verified for the host that is called, where no other name is set.
func withName(settings *tls.Config, server string) *tls.Config {
	if settings.ServerName != "" {
		return settings
	}
	settings = settings.Clone()
	settings.ServerName = server
	if host, _, err := net.SplitHostPort(server); err == nil {
		settings.ServerName = host
	}
	return settings
}

func (c *Client) dialer() func(context.Context, string) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial
	}
	return func(ctx context.Context, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: connectTimeout}
		return d.DialContext(ctx, "tcp", address)
	}
}

// local connects to this machine only. The address counts, not the name, which may lead elsewhere.
func local(
	dial func(context.Context, string) (net.Conn, error),
) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		err = errNotLocal
		for _, a := range found {
			if !a.Unmap().IsLoopback() {
				continue
			}
			var conn net.Conn
			if conn, err = dial(ctx, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
				return conn, nil
			}
		}
		return nil, fmt.Errorf("%s: %w", address, err)
	}
}

// watch ends a stream that has brought no configuration in time, or that is to be made anew, and notes one that works.
func (s *session) watch(ctx context.Context) (stop func()) {
	up := time.AfterFunc(connectedAfter, func() { s.client.up(s) })
	first := time.AfterFunc(firstResponseMax, func() {
		if !s.client.holds() {
			s.end(errSilent)
		}
	})
	done := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-done:
		case <-s.client.renew:
			s.end(errRenewed)
		}
	}()
	return func() { up.Stop(); first.Stop(); close(done) }
}

// send has a request sent when the stream takes it; it does not wait for that.
func (s *session) send(r *discovery.DeltaDiscoveryRequest) {
	s.mu.Lock()
	s.out = append(s.out, r)
	waiting := len(s.out)
	s.mu.Unlock()
	if waiting > answersMax {
		s.end(errUnread)
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write sends what waits, until ctx ends.
func (s *session) write(ctx context.Context, stream deltaStream) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		for r := s.next(); r != nil; r = s.next() {
			if stream.Send(r) != nil { // read has the reason
				return
			}
		}
	}
}

func (s *session) next() *discovery.DeltaDiscoveryRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) == 0 {
		return nil
	}
	r := s.out[0]
	s.out = s.out[1:]
	return r
}

// subscribe changes for which services endpoints are asked for. held are those of which a version is there.
func (s *session) subscribe(added, removed []string, held map[string]string) {
	removed = s.noteSubscription(added, removed)
	if len(added)+len(removed) == 0 { // a first request without a name would ask for everything
		return
	}
	s.send(&discovery.DeltaDiscoveryRequest{
		TypeUrl: nativedialect.EndpointType, ResourceNamesSubscribe: added, ResourceNamesUnsubscribe: removed,
		InitialResourceVersions: held,
	})
}

// noteSubscription returns which services are to be taken out: none at the first request, since they are of the stream
// before.
func (s *session) noteSubscription(added, removed []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.endpoints {
		s.endpoints, s.left = true, map[string]bool{}
		return nil
	}
	for _, name := range removed {
		s.left[name] = true
	}
	for _, name := range added {
		delete(s.left, name)
	}
	return removed
}

// hasLeft reports whether the endpoints of a service were asked for and are no more: some may be under way.
func (s *session) hasLeft(service string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[service]
}

// read takes responses until the stream ends.
func (s *session) read(ctx context.Context, stream deltaStream) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		s.client.up(s)
		u := s.parse(r)
		if u.Configuration == nil && len(u.Endpoints) == 0 {
			u.Ack()
			continue
		}
		select {
		case s.client.updates <- u:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answer sends an ACK, or a NACK with the reason, where the stream is still there.
func (s *session) answer(typeURL, nonce string, reason error) {
	r := &discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: nonce}
	if reason != nil {
		r.ErrorDetail = &rpc.Status{Code: int32(codes.InvalidArgument), Message: reason.Error()}
	}
	s.send(r)
}

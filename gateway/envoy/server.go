package envoy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"

	"github.com/sluice-gateway/sluice/filters"
	"github.com/sluice-gateway/sluice/gateway/budget"
)

// Handler serves requests.
type Handler interface {
	// Serve gives the request its response. It may be called for many requests at once, each from a
	// goroutine of its own.
	Serve(r *Request)
}

// Options is what a server is made of.
type Options struct {
	Handler Handler
	Budget  *budget.Budget
	// TLS returns how connections are secured, for each connection anew; nil: they are not.
	TLS *tls.Config

	HeaderTimeout time.Duration // from the begin of a stream to its first message
	BodyTimeout   time.Duration // for the whole body of a request, which Envoy buffers
	MaxBody       int64         // of requests and responses, as the longest message
	MaxStreams    uint32        // of one connection

	Logger *slog.Logger
}

// Server is the gRPC server that Envoys call. It has the service ext_proc and the health of gRPC; others are
// registered before it serves.
type Server struct {
	Options
	grpc   *grpc.Server
	health *health.Server

	hiding                           hiding
	noHead, noPeer, hidden, noOrigin *filters.LogThrottle
}

// messageSpare is what a message may have beside a body: its head, and what is around both.
const messageSpare = 1 << 20

// Keepalive of the connections: an Envoy that has gone without a word is noticed, and its requests end.
const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// processorService is envoy.service.ext_proc.v3.ExternalProcessor, with messages that this package reads and writes
// itself.
var processorService = grpc.ServiceDesc{
	ServiceName: "envoy.service.ext_proc.v3.ExternalProcessor", HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: "Process", ServerStreams: true, ClientStreams: true,
		Handler: func(s any, stream grpc.ServerStream) error { return s.(*Server).Process(stream) },
	}},
}

// streamWorkers is how many goroutines are kept for streams, with the stacks that they have grown: growing one
// anew costs a tenth of a request. More streams get goroutines of their own.
const streamWorkers = 64

// NewServer returns a server that does not listen yet.
func NewServer(o Options) *Server {
	s := &Server{Options: o, health: health.NewServer(), noHead: new(filters.LogThrottle),
		noPeer: new(filters.LogThrottle), hidden: new(filters.LogThrottle), noOrigin: new(filters.LogThrottle)}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(o.MaxBody) + messageSpare), grpc.MaxConcurrentStreams(o.MaxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(o.HeaderTimeout),
		grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
			return cancellable(ctx), nil
		}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ForceServerCodecV2(newCodec()),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	s.grpc.RegisterService(&processorService, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	return s
}

// Registrar takes further services, before Serve.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Serve serves the connections of a listener until Shutdown or Close; it returns nil then.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Shutdown takes no more requests and waits for those under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown() // Envoys that look are told before they are sent away
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return ctx.Err()
	}
}

// Close ends what is still open.
func (s *Server) Close() { s.grpc.Stop() }

// warn tells the operator what is wrong with the configuration of an Envoy.
func (s *Server) warn(t *filters.LogThrottle, what string, args ...any) {
	t.Warn(s.Logger, time.Now(), what, args...)
}

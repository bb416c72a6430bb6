package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// keyedService counts the executions of each key that it is called with.
type keyedService struct {
	testpb.UnimplementedTestServiceServer
	mu   sync.Mutex
	runs map[string]int
	last int // of all runs
	took chan struct{}
}

// run counts a call and returns its number, by the client's own name for it.
func (s *keyedService) run(ctx context.Context) int {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range md.Get("test-name") {
		s.runs[name]++
	}
	s.last++
	return s.last
}

func (s *keyedService) ran(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

// UnaryCall answers with the number of the run, as its body, in its head, and behind it; or with
// the status that is asked for.
func (s *keyedService) UnaryCall(ctx context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	run := s.run(ctx)
	if err := errors.Join(
		grpc.SetHeader(ctx, metadata.Pairs("test-initial", fmt.Sprint(run))),
		grpc.SetTrailer(ctx, metadata.Pairs("test-behind", fmt.Sprint(run), "test-behind-bin", "\x00\xff")),
	); err != nil {
		return nil, err
	}
	if want := r.GetResponseStatus(); want != nil {
		st, err := status.New(codes.Code(want.Code),
			want.Message).WithDetails(&errdetails.ErrorInfo{Reason: fmt.Sprint("run ", run), Domain: "test"})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
	return &testpb.SimpleResponse{Username: fmt.Sprint("run ", run)}, nil
}

// StreamingOutputCall sends a message, and the second one when it is told that the first has
// arrived.
func (s *keyedService) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	s.run(stream.Context())
	for i := range 2 {
		if i > 0 {
			select {
			case <-s.took:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: fmt.Append(nil,
			i)}}); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall tells of each message that it has got, and answers with how many there were.
func (s *keyedService) StreamingInputCall(stream grpc.ClientStreamingServer[testpb.StreamingInputCallRequest,
	testpb.StreamingInputCallResponse]) error {
	s.run(stream.Context())
	for n := int32(0); ; n++ {
		_, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		select {
		case s.took <- struct{}{}:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// FullDuplexCall sends each message back.
func (s *keyedService) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest,
	testpb.StreamingOutputCallResponse]) error {
	s.run(stream.Context())
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// startKeyedGRPC runs the service and a gateway in front of it, with these settings of its
// idempotency.
func startKeyedGRPC(t *testing.T, settings string) (*keyedService, *gateway) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &keyedService{runs: map[string]int{}, took: make(chan struct{})}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, startGateway(t, fmt.Sprintf(`services:
  service: {endpoints: ["h2c://%s"], timeout: 60s}
routes:
  - {name: keyed, match: {path: /**}, service: service, idempotency: {%s}}
`, l.Addr(), settings))
}

// keyedClients are the ways to the gateway.
func keyedClients(t *testing.T, g *gateway) map[string]testpb.TestServiceClient {
	t.Helper()
	clients := map[string]testpb.TestServiceClient{}
	for name, way := range map[string]struct {
		address string
		with    credentials.TransportCredentials
	}{
		"cleartext": {g.http, insecure.NewCredentials()},
		"tls":       {g.https, credentials.NewTLS(certificate(t).clientTLS())},
	} {
		c, err := grpc.NewClient("passthrough:///"+way.address, grpc.WithTransportCredentials(way.with),
			grpc.WithDisableRetry())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients[name] = testpb.NewTestServiceClient(c)
	}
	return clients
}

// keyed is the context of a call with a key, which the service counts it under too.
func keyed(t *testing.T, key string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "idempotency-key", key, "test-name", key)
}

// unary is what a client sees of a unary call.
type unary struct {
	response        *testpb.SimpleResponse
	status          *status.Status
	header, trailer metadata.MD
}

func callUnary(t *testing.T, c testpb.TestServiceClient, key string, r *testpb.SimpleRequest) (u unary) {
	t.Helper()
	var err error
	u.response, err = c.UnaryCall(keyed(t, key), r, grpc.Header(&u.header), grpc.Trailer(&u.trailer))
	u.status = status.Convert(err)
	return u
}

// first returns the first value of a name, wherever it is.
func (u unary) first(name string) string {
	for _, v := range append(u.header.Get(name), u.trailer.Get(name)...) {
		return v
	}
	return ""
}

// replays fails the test unless the second call is the replay of the first.
func replays(t *testing.T, first, again unary) {
	t.Helper()
	if !proto.Equal(first.response, again.response) || !proto.Equal(first.status.Proto(), again.status.Proto()) {
		t.Errorf("first %v %v, then %v %v", first.response, first.status.Proto(), again.response, again.status.Proto())
	}
	for _, name := range []string{"test-initial", "test-behind", "test-behind-bin"} {
		if a, b := first.first(name), again.first(name); a != b || a == "" {
			t.Errorf("%s is %q, then %q", name, a, b)
		}
	}
	if first.first("idempotent-replayed") != "" || again.first("idempotent-replayed") != "true" {
		t.Errorf("first %v, then %v", first.header, again.header)
	}
}

// refused fails the test unless the gateway has refused the call like that.
func refused(t *testing.T, u unary, code codes.Code, reason string) {
	t.Helper()
	if u.status.Code() != code || u.first("sluice-reason") != reason || u.status.Message() == "" {
		t.Errorf("got %v with %v %v, want %v for %s", u.status, u.header, u.trailer, code, reason)
	}
}

func TestGRPCUnaryWithAKey(t *testing.T) {
	t.Parallel()
	s, g := startKeyedGRPC(t, "")
	for way, c := range keyedClients(t, g) {
		for _, wanted := range []codes.Code{codes.OK, codes.FailedPrecondition} {
			key := fmt.Sprintf("%s-%v", way, wanted)
			r := new(testpb.SimpleRequest)
			if wanted != codes.OK {
				r.ResponseStatus = &testpb.EchoStatus{Code: int32(wanted), Message: "not % yet, größer"}
			}
			first, again := callUnary(t, c, key, r), callUnary(t, c, key, r)
			if first.status.Code() != wanted || s.ran(key) != 1 {
				t.Errorf("%s: %v, %d executions", key, first.status, s.ran(key))
			}
			replays(t, first, again)
			other := &testpb.SimpleRequest{FillUsername: true}
			refused(t, callUnary(t, c, key, other), codes.InvalidArgument, "idempotency-key-reused")
		}
	}
}

// What the service says decides what becomes of the key, as the route's settings have it.
func TestGRPCStatusDecides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		status         codes.Code
		runs           int // of two calls
	}{
		{"unavailable is free", "", codes.Unavailable, 2},
		{"unavailable is unknown", "notExecuted: []", codes.Unavailable, 1},
		{"internal is unknown", "", codes.Internal, 1},
		{"internal is tried again", "onUnknown: retry", codes.Internal, 2},
		{"exhausted is not known", "", codes.ResourceExhausted, 1},
		{"exhausted is free where the route says so", "notExecuted: [429]", codes.ResourceExhausted, 2},
		{"unimplemented is free", "", codes.Unimplemented, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, g := startKeyedGRPC(t, c.settings)
			client := keyedClients(t, g)["cleartext"]
			r := &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(c.status), Message: "m"}}
			first, again := callUnary(t, client, "k", r), callUnary(t, client, "k", r)
			if first.status.Code() != c.status || s.ran("k") != c.runs {
				t.Errorf("%v, %d executions, want %d", first.status, s.ran("k"), c.runs)
			}
			if c.runs == 1 {
				refused(t, again, codes.FailedPrecondition, "outcome-unknown")
			} else if again.status.Code() != c.status || again.first("idempotent-replayed") != "" {
				t.Errorf("then %v with %v", again.status, again.header)
			}
		})
	}
}

func TestGRPCServerStreamWithAKey(t *testing.T) {
	t.Parallel()
	s, g := startKeyedGRPC(t, "")
	for way, c := range keyedClients(t, g) {
		stream, err := c.StreamingOutputCall(keyed(t, way), new(testpb.StreamingOutputCallRequest))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			m, err := stream.Recv()
			if err != nil || string(m.GetPayload().GetBody()) != fmt.Sprint(i) {
				t.Fatalf("%s: message %d is %v, %v", way, i, m, err)
			}
			if i > 0 {
				break
			}
			again, err := c.StreamingOutputCall(keyed(t, way), new(testpb.StreamingOutputCallRequest))
			if err != nil {
				t.Fatal(err)
			}
			m, err = again.Recv()
			if status.Code(err) != codes.AlreadyExists || s.ran(way) != 1 {
				t.Errorf("%s: the duplicate gets %v, %v, %d executions", way, m, err, s.ran(way))
			}
			if why := (unary{header: header(t, again),
				trailer: again.Trailer()}).first("sluice-reason"); why != "response-not-replayable" {
				t.Errorf("%s: the duplicate is refused for %q", way, why)
			}
			s.took <- struct{}{}
		}
		if m, err := stream.Recv(); err != io.EOF {
			t.Errorf("%s: ends with %v, %v", way, m, err)
		}
	}
}

func header(t *testing.T, s grpc.ClientStream) metadata.MD {
	t.Helper()
	md, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	return md
}

// Where the body is not in the fingerprint, a stream of the client's goes through as it comes; its
// one response is replayed.
func TestGRPCClientStreamWithAKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, settings string
		flows          bool
	}{
		{"body left out", "fingerprint: [method, path]", true},
		{"body read first", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, g := startKeyedGRPC(t, c.settings)
			client := keyedClients(t, g)["cleartext"]
			const messages = 3
			call := func(executed bool) (*testpb.StreamingInputCallResponse, error) {
				stream, err := client.StreamingInputCall(keyed(t, "k"))
				if err != nil {
					return nil, err
				}
				for range messages {
					// io.EOF: it is answered already
					if err := stream.Send(new(testpb.StreamingInputCallRequest)); err != nil && err != io.EOF {
						return nil, err
					}
					if executed && c.flows { // the service has it before the next one is sent
						await(t, s.took)
					}
				}
				if executed && !c.flows {
					if s.ran("k") != 0 {
						t.Error("the service was called before the body was whole")
					}
					if err := stream.CloseSend(); err != nil {
						return nil, err
					}
					for range messages {
						await(t, s.took)
					}
				}
				return stream.CloseAndRecv()
			}
			first, err := call(true)
			if err != nil || first.GetAggregatedPayloadSize() != messages {
				t.Fatalf("first %v, %v", first, err)
			}
			again, err := call(false)
			if err != nil || !proto.Equal(first, again) || s.ran("k") != 1 {
				t.Errorf("then %v, %v, %d executions", again, err, s.ran("k"))
			}
		})
	}
}

func await(t *testing.T, took <-chan struct{}) {
	t.Helper()
	select {
	case <-took:
	case <-time.After(limit):
		t.Fatal("the service has not got the message")
	}
}

func TestGRPCDialogueWithAKey(t *testing.T) {
	t.Parallel()
	t.Run("body left out", func(t *testing.T) {
		t.Parallel()
		s, g := startKeyedGRPC(t, "fingerprint: [method, path]")
		for way, c := range keyedClients(t, g) {
			stream, err := c.FullDuplexCall(keyed(t, way))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				said := fmt.Append(nil, i)
				req := &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: said}}
				if err := stream.Send(req); err != nil {
					t.Fatal(err)
				}
				if m, err := stream.Recv(); err != nil || string(m.GetPayload().GetBody()) != string(said) {
					t.Fatalf("%s: %v, %v", way, m, err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if m, err := stream.Recv(); err != io.EOF {
				t.Errorf("%s: ends with %v, %v", way, m, err)
			}
			again, err := c.FullDuplexCall(keyed(t, way))
			if err != nil {
				t.Fatal(err)
			}
			if m, err := again.Recv(); status.Code(err) != codes.AlreadyExists || s.ran(way) != 1 {
				t.Errorf("%s: the duplicate gets %v, %v, %d executions", way, m, err, s.ran(way))
			}
		}
	})
	// The gateway waits for the end of what is to be in the fingerprint, and the client for a
	// response: its deadline ends that, and the service never sees it.
	t.Run("body in the fingerprint", func(t *testing.T) {
		t.Parallel()
		s, g := startKeyedGRPC(t, "")
		ctx, cancel := context.WithTimeout(keyed(t, "k"), time.Second)
		defer cancel()
		stream, err := keyedClients(t, g)["cleartext"].FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded || s.ran("k") != 0 {
			t.Errorf("%v, %v, %d executions", m, err, s.ran("k"))
		}
	})
}

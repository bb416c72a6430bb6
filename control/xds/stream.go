package xds

import (
	"context"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// deltaStream is a delta stream as the library sees it: it looks at each message that passes.
type deltaStream struct {
	stream.DeltaStream
	*session
}

// sotwStream is a state-of-the-world stream as the library sees it.
type sotwStream struct {
	stream.Stream
	*session
}

var (
	_ stream.DeltaStream = (*deltaStream)(nil)
	_ stream.Stream      = (*sotwStream)(nil)
)

// Recv returns the next request. The node in it is replaced by the session's own: the caches go by
// it, and an Envoy's node has a hundred kilobytes that they would keep.
func (s *deltaStream) Recv() (*discovery.DeltaDiscoveryRequest, error) {
	r, err := s.DeltaStream.Recv()
	if err != nil {
		return nil, err
	}
	err = s.request(request{
		node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(),
		refused: r.GetErrorDetail() != nil, reason: r.GetErrorDetail().GetMessage(),
		holds: r.GetInitialResourceVersions(), subscribe: r.GetResourceNamesSubscribe(),
		unsubscribe: r.GetResourceNamesUnsubscribe(),
	})
	if err != nil {
		return nil, s.end(err)
	}
	r.Node, r.ErrorDetail = s.node, nil
	return r, nil
}

// Send sends a response and bounds how long that takes.
func (s *deltaStream) Send(r *discovery.DeltaDiscoveryResponse) error {
	s.response(r.GetTypeUrl(), r.GetNonce(), r.GetSystemVersionInfo())
	return s.bounded(func() error { return s.DeltaStream.Send(r) })
}

// Recv returns the next request. Of a NACK the library would send the same resources again at once,
// and again at the next NACK, tens of thousands of times a second: it takes a request for resources
// of any other version than the current for one that has yet to be answered. So a NACK is passed on
// as the acknowledgement of the version that it refuses: then the library waits for another one.
func (s *sotwStream) Recv() (*discovery.DiscoveryRequest, error) {
	r, err := s.Stream.Recv()
	if err != nil {
		return nil, err
	}
	err = s.request(request{
		node: r.GetNode(), typeURL: r.GetTypeUrl(), nonce: r.GetResponseNonce(),
		refused: r.GetErrorDetail() != nil, reason: r.GetErrorDetail().GetMessage(),
		version: r.GetVersionInfo(), names: r.GetResourceNames(), sotw: true,
	})
	if err != nil {
		return nil, s.end(err)
	}
	r.Node, r.ErrorDetail = s.node, nil
	if parked := s.parked(r.GetTypeUrl(), r.GetResponseNonce()); parked != "" {
		r.VersionInfo = parked
	}
	return r, nil
}

// Send sends a response and bounds how long that takes.
func (s *sotwStream) Send(r *discovery.DiscoveryResponse) error {
	s.response(r.GetTypeUrl(), r.GetNonce(), r.GetVersionInfo())
	return s.bounded(func() error { return s.Stream.Send(r) })
}

// StreamAggregatedResources implements ADS, state of the world.
func (p *plane) StreamAggregatedResources(
	str discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer,
) error {
	return p.serve(str.Context(), false, func(s *session) error {
		return p.discovery.StreamHandler(&sotwStream{str, s}, anyType)
	})
}

// DeltaAggregatedResources implements ADS, delta.
func (p *plane) DeltaAggregatedResources(
	str discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer,
) error {
	return p.serve(str.Context(), true, func(s *session) error {
		return p.discovery.DeltaStreamHandler(&deltaStream{str, s}, anyType)
	})
}

// anyType has the library take the type from each request: ADS.
const anyType = ""

// serve runs a stream until it ends or is ended. What the library has for it is cleared once the
// library has left it: before that a late request would make it anew.
func (p *plane) serve(ctx context.Context, delta bool, run func(*session) error) error {
	s, err := p.open(callerOf(ctx), delta)
	if err != nil {
		return err
	}
	waiting := time.AfterFunc(p.bounds.firstRequest, func() {
		if !s.named() {
			_ = s.end(status.Errorf(codes.DeadlineExceeded, "no request within %s", p.bounds.firstRequest))
		}
	})
	defer waiting.Stop()
	done := make(chan error, 1)
	go func() {
		err := run(s)
		p.close(s)
		done <- err
	}()
	select {
	case err := <-s.ended:
		p.leave(s)
		return err
	case err := <-done:
		select {
		case err := <-s.ended: // the reason, of which the library knows nothing
			return err
		default:
			return err
		}
	}
}

// end ends the stream with an error that its client sees.
func (s *session) end(err error) error {
	select {
	case s.ended <- err:
	default: // it ends already
	}
	return err
}

// bounded ends the stream when its client does not take a response in time. The response waits in
// memory, and nobody else for it.
func (s *session) bounded(send func() error) error {
	limit := s.plane.bounds.send
	timer := time.AfterFunc(limit, func() {
		_ = s.end(status.Errorf(codes.DeadlineExceeded, "a response was not taken within %s", limit))
	})
	defer timer.Stop()
	return send()
}

// nodeOf is the node that stands for a session in the caches. Two streams of one node, of which the
// first has not been noticed to be gone, have nothing in common.
func nodeOf(key string) *core.Node { return &core.Node{Id: key} }

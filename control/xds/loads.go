package xds

import (
	"io"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	load "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

// loadEvery is how often nodes are asked to report their requests.
const loadEvery = 5 * time.Second

// loadClustersMax bounds the clusters of one report.
const loadClustersMax = 10_000

// StreamLoadStats implements LRS: nodes report how many of their requests have succeeded and failed,
// by cluster. It is how a canary is judged. Envoy and gRPC speak it as it is.
func (p *plane) StreamLoadStats(str load.LoadReportingService_StreamLoadStatsServer) error {
	s, err := p.open(callerOf(str.Context()), false)
	if err != nil {
		return err
	}
	defer p.leave(s)
	received := make(chan error, 1)
	go func() { received <- p.receiveLoads(s, str) }()
	waiting := time.AfterFunc(p.bounds.firstRequest, func() {
		if !s.named() {
			_ = s.end(status.Errorf(codes.DeadlineExceeded, "no request within %s", p.bounds.firstRequest))
		}
	})
	defer waiting.Stop()
	select {
	case err := <-received:
		return err
	case err := <-s.ended:
		return err
	}
}

func (p *plane) receiveLoads(s *session, str load.LoadReportingService_StreamLoadStatsServer) error {
	for asked := false; ; {
		r, err := str.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.identify(r.GetNode()); err != nil {
			return err
		}
		if !asked {
			asked = true
			err := s.bounded(func() error {
				return str.Send(&load.LoadStatsResponse{
					SendAllClusters: true, LoadReportingInterval: durationpb.New(loadEvery),
				})
			})
			if err != nil {
				return err
			}
		}
		if len(r.GetClusterStats()) > loadClustersMax {
			return status.Errorf(codes.ResourceExhausted, "more than %d clusters in a report", loadClustersMax)
		}
		p.addLoad(s, r)
	}
}

// identify takes the node from the first message, as that of discovery is taken.
func (s *session) identify(n *core.Node) error {
	s.plane.mu.Lock()
	defer s.plane.mu.Unlock()
	s.loads = true
	return s.identifyLocked(n)
}

// addLoad gives what a node reports to the rollout, as that of the stream by which the node has its
// configuration.
func (p *plane) addLoad(s *session, r *load.LoadStatsRequest) {
	var sum rollout.Sample
	for _, c := range r.GetClusterStats() {
		for _, l := range c.GetUpstreamLocalityStats() {
			failed := count(l.GetTotalErrorRequests())
			sum.Errors += failed
			sum.Requests += failed + count(l.GetTotalSuccessfulRequests())
		}
	}
	if sum.Requests == 0 {
		return
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.byID[s.id] {
		if other.joined {
			other.reported.Requests += sum.Requests
			other.reported.Errors += sum.Errors
			p.act(func(o *rollout.Rollout) bool { return o.Load(now, other.key, sum) })
			return
		}
	}
}

// countMax bounds what one report adds, so that no sum of them ever overflows.
const countMax = 1 << 32

func count(n uint64) int64 { return int64(min(n, countMax)) }

package adsclient

import (
	"context"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	load "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Loads returns how many requests there were since the process began, and how many of them failed.
type Loads func() (requests, failed uint64)

// The least and the longest interval of reports, whatever a control plane asks for.
const (
	reportMin = time.Second
	reportMax = time.Minute
)

// reportedCluster is the one cluster of a report: all requests of the gateway.
const reportedCluster = "sluice"

// Report has the requests reported to the control plane, which judges a canary by them.
func (c *Client) Report(loads Loads) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loads, c.reported = loads, [2]uint64{}
}

// report speaks LRS (envoy.service.load_stats.v3) on the connection of a stream. A control plane that does not is left
// alone with it.
func (c *Client) report(ctx context.Context, conn *grpc.ClientConn) {
	stream, err := load.NewLoadReportingServiceClient(conn).StreamLoadStats(ctx)
	if err != nil {
		return
	}
	if err := stream.Send(&load.LoadStatsRequest{Node: c.node()}); err != nil {
		return
	}
	wanted, err := stream.Recv()
	if err != nil {
		return
	}
	ended := make(chan struct{})
	go func() { // it may ask for another interval, and this is how its end is noticed
		defer close(ended)
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	defer func() { <-ended }() // ctx has ended by then, or the stream
	every := min(max(wanted.GetLoadReportingInterval().AsDuration(), reportMin), reportMax)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if r := c.loadStats(every); r != nil && stream.Send(r) != nil {
			return // the other goroutine has the reason, and ends
		}
	}
}

// loadStats returns what has not been reported yet; nil: nothing.
func (c *Client) loadStats(interval time.Duration) *load.LoadStatsRequest {
	c.mu.Lock()
	loads, reported := c.loads, c.reported
	c.mu.Unlock()
	if loads == nil {
		return nil
	}
	requests, failed := loads()
	more, bad := requests-reported[0], failed-reported[1]
	if more == 0 || bad > more {
		return nil
	}
	c.mu.Lock()
	c.reported = [2]uint64{requests, failed}
	c.mu.Unlock()
	return &load.LoadStatsRequest{Node: c.node(), ClusterStats: []*endpoint.ClusterStats{{
		ClusterName: reportedCluster, LoadReportInterval: durationpb.New(interval),
		UpstreamLocalityStats: []*endpoint.UpstreamLocalityStats{{
			Locality: &core.Locality{}, TotalSuccessfulRequests: more - bad, TotalErrorRequests: bad,
			TotalIssuedRequests: more,
		}},
	}}}
}

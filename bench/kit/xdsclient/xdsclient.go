// Package xdsclient is a small client of xDS for tests: it asks for types of resources over ADS, delta
// or state of the world, and acknowledges or refuses what comes as it is told to. It keeps the last
// good resources, as the protocol asks of clients, and neither reconnects nor waits by itself.
package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Options are those of one client.
type Options struct {
	Address string
	// Credentials are those of the transport; nil: none.
	Credentials credentials.TransportCredentials
	Node        *core.Node
	// Names are what it asks for, by type; no names is all of a type.
	Names map[string][]string
	// Holds are the versions of resources that it comes with, by type and name.
	Holds map[string]map[string]string
	SotW  bool
	// Judge says whether what has come is taken; nil: it is. It is called by one goroutine.
	Judge func(Response) error
	// Silent has it neither acknowledge nor refuse anything.
	Silent bool
	// Buffer is how many bytes a connection buffers in each direction; 0 is gRPC's own.
	Buffer int
}

// Response is what has come of one type.
type Response struct {
	Type      string
	Version   string // of the type
	Resources []*discovery.Resource
	Removed   []string
}

// Client is one connection with one stream.
type Client struct {
	options Options
	conn    *grpc.ClientConn
	cancel  context.CancelFunc
	ended   chan struct{}

	mu        sync.Mutex
	versions  map[string]string // that were taken, by type
	resources map[string]map[string]*discovery.Resource
	responses int
	refused   int
	err       error
	changed   chan struct{} // closed at each change
}

// Dial connects and asks. The error of the stream is that of [Client.Err].
func Dial(o Options) (*Client, error) {
	if o.Credentials == nil {
		o.Credentials = insecure.NewCredentials()
	}
	list := []grpc.DialOption{
		grpc.WithTransportCredentials(o.Credentials), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32 << 20)),
	}
	if o.Buffer > 0 {
		list = append(list, grpc.WithReadBufferSize(o.Buffer), grpc.WithWriteBufferSize(o.Buffer))
	}
	conn, err := grpc.NewClient("passthrough:///"+o.Address, list...)
	if err != nil {
		return nil, fmt.Errorf("xdsclient: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{
		options: o, conn: conn, cancel: cancel, ended: make(chan struct{}), versions: map[string]string{},
		resources: map[string]map[string]*discovery.Resource{}, changed: make(chan struct{}),
	}
	go func() {
		defer close(c.ended)
		err := c.run(ctx)
		c.note(func() { c.err = err })
	}()
	return c, nil
}

// Close ends the stream and the connection.
func (c *Client) Close() {
	c.cancel()
	<-c.ended
	_ = c.conn.Close() // the stream has ended, and nothing else is open
}

func (c *Client) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

// State is how a client stands.
type State struct {
	Versions  map[string]string // that were taken, by type
	Resources map[string]map[string]*discovery.Resource
	Responses int
	Refused   int
	Err       error // of the stream that has ended
}

// State returns how it stands, and a channel that is closed when that changes.
func (c *Client) State() (State, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{
		Versions: maps.Clone(c.versions), Resources: map[string]map[string]*discovery.Resource{},
		Responses: c.responses, Refused: c.refused, Err: c.err,
	}
	for t, r := range c.resources {
		s.Resources[t] = maps.Clone(r)
	}
	return s, c.changed
}

// Version returns the version of a type that was taken last, and a channel that is closed when
// anything changes.
func (c *Client) Version(typeURL string) (string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.versions[typeURL], c.changed
}

func (c *Client) run(ctx context.Context) error {
	ads := discovery.NewAggregatedDiscoveryServiceClient(c.conn)
	if c.options.SotW {
		return c.runSotW(ctx, ads)
	}
	stream, err := ads.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := c.options.Node
	for typeURL, names := range c.options.Names {
		err := stream.Send(&discovery.DeltaDiscoveryRequest{
			Node: node, TypeUrl: typeURL, ResourceNamesSubscribe: names,
			InitialResourceVersions: c.options.Holds[typeURL],
		})
		if err != nil {
			return errors.Join(err, receiveError(stream.Recv))
		}
		node = nil
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		got := Response{
			Type: r.GetTypeUrl(), Version: r.GetSystemVersionInfo(), Resources: r.GetResources(),
			Removed: r.GetRemovedResources(),
		}
		detail := c.judge(got)
		if c.options.Silent {
			continue
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{
			TypeUrl: got.Type, ResponseNonce: r.GetNonce(), ErrorDetail: detail,
		}); err != nil {
			return errors.Join(err, receiveError(stream.Recv))
		}
	}
}

func (c *Client) runSotW(ctx context.Context, ads discovery.AggregatedDiscoveryServiceClient) error {
	stream, err := ads.StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	node := c.options.Node
	for typeURL, names := range c.options.Names {
		err := stream.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: typeURL, ResourceNames: names})
		if err != nil {
			return errors.Join(err, receiveError(stream.Recv))
		}
		node = nil
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		got := Response{Type: r.GetTypeUrl(), Version: r.GetVersionInfo()}
		for _, one := range r.GetResources() {
			got.Resources = append(got.Resources, &discovery.Resource{Resource: one})
		}
		detail := c.judge(got)
		if c.options.Silent {
			continue
		}
		version, _ := c.Version(got.Type)
		if err := stream.Send(&discovery.DiscoveryRequest{
			TypeUrl: got.Type, ResponseNonce: r.GetNonce(), ErrorDetail: detail, VersionInfo: version,
			ResourceNames: c.options.Names[got.Type],
		}); err != nil {
			return errors.Join(err, receiveError(stream.Recv))
		}
	}
}

// receiveError returns the error of a stream, which only its reader sees.
func receiveError[M any](receive func() (M, error)) error {
	for {
		if _, err := receive(); err != nil {
			return err
		}
	}
}

// judge takes what has come, or says why not.
func (c *Client) judge(r Response) *status.Status {
	var err error
	if c.options.Judge != nil {
		err = c.options.Judge(r)
	}
	c.note(func() {
		c.responses++
		if err != nil {
			c.refused++
			return
		}
		c.versions[r.Type] = r.Version
		if c.resources[r.Type] == nil || c.options.SotW {
			c.resources[r.Type] = map[string]*discovery.Resource{}
		}
		for _, one := range r.Resources {
			c.resources[r.Type][one.GetName()] = one
		}
		for _, name := range r.Removed {
			delete(c.resources[r.Type], name)
		}
	})
	if err == nil {
		return nil
	}
	return &status.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
}

package nativedialect

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/control/config"
)

// A Host is a name or an address, with or without a port: it stands in requests as it is.
const (
	hostCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]"
	hostMax        = 300
)

// EndpointsMax bounds the endpoints of one service.
const EndpointsMax = 10_000

// The metadata of an endpoint that says how it is spoken to.
const (
	metadataKey = "sluice"
	tlsMember   = "tls"
	http2Member = "http2"
)

// Assignment writes the endpoints of a service into the resource that gateways are given.
func Assignment(service string, endpoints []config.Endpoint) (*endpoint.ClusterLoadAssignment, error) {
	list := make([]*endpoint.LbEndpoint, len(endpoints))
	for i, e := range endpoints {
		address, err := addressOf(e)
		if err != nil {
			return nil, fmt.Errorf("nativedialect: service %s: endpoint %q: %w", service, e.Address, err)
		}
		list[i] = &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{
			Endpoint: &endpoint.Endpoint{Address: address, Hostname: e.Host},
		}}
		if e.TLS || e.HTTP2 {
			list[i].Metadata = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{
				metadataKey: {Fields: map[string]*structpb.Value{
					tlsMember: structpb.NewBoolValue(e.TLS), http2Member: structpb.NewBoolValue(e.HTTP2),
				}},
			}}
		}
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: service, Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: list}},
	}, nil
}

func addressOf(e config.Endpoint) (*core.Address, error) {
	if e.Network == "unix" {
		return &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: e.Address}}}, nil
	}
	host, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(n)},
	}}}, nil
}

// Endpoints returns the endpoints of a service in their order, as [Assignment] was given them. An endpoint that the
// assignment says is unhealthy or draining is left out.
func Endpoints(from *endpoint.ClusterLoadAssignment) (service string, list []config.Endpoint, err error) {
	service = from.GetClusterName()
	for _, locality := range from.GetEndpoints() {
		for _, lb := range locality.GetLbEndpoints() {
			switch lb.GetHealthStatus() {
			case core.HealthStatus_UNHEALTHY, core.HealthStatus_DRAINING, core.HealthStatus_TIMEOUT:
				continue
			}
			e, err := endpointOf(lb)
			if err != nil {
				return service, nil, fmt.Errorf("nativedialect: service %.200s: %w", service, err)
			}
			if len(list) == EndpointsMax {
				return service, nil, fmt.Errorf("nativedialect: service %.200s: more than %d endpoints", service,
					EndpointsMax)
			}
			list = append(list, e)
		}
	}
	return service, list, nil
}

var errAddress = errors.New("an endpoint without an address and port")

func endpointOf(lb *endpoint.LbEndpoint) (config.Endpoint, error) {
	how := lb.GetMetadata().GetFilterMetadata()[metadataKey].GetFields()
	e := config.Endpoint{
		Host: lb.GetEndpoint().GetHostname(),
		TLS:  how[tlsMember].GetBoolValue(), HTTP2: how[http2Member].GetBoolValue(),
	}
	if strings.Trim(e.Host, hostCharacters) != "" || len(e.Host) > hostMax {
		return e, fmt.Errorf("nativedialect: an endpoint of the host %.200q", e.Host)
	}
	address := lb.GetEndpoint().GetAddress()
	if pipe := address.GetPipe().GetPath(); pipe != "" {
		if !path.IsAbs(pipe) {
			return e, fmt.Errorf("%w: the socket %.200q", errAddress, pipe)
		}
		e.Network, e.Address = "unix", pipe
		return e, nil
	}
	socket := address.GetSocketAddress()
	host, port := socket.GetAddress(), socket.GetPortValue()
	_, parsed := netip.ParseAddr(host)
	if port == 0 || port > 65535 || parsed != nil && !config.IsHostName(host) {
		return e, fmt.Errorf("%w: %.200q, port %d", errAddress, host, port)
	}
	e.Network, e.Address = "tcp", net.JoinHostPort(host, strconv.Itoa(int(port)))
	if e.Host == "" {
		e.Host = e.Address
	}
	return e, nil
}

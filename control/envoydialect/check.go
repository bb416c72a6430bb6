package envoydialect

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// Check checks that the resources are valid by the rules of Envoy's API, that no two of a kind have
// one name, and that every name that one refers to is among them. An Envoy that waits for a resource
// which never comes keeps its old configuration and says nothing.
//
// go-control-plane's own checks do not do: [Snapshot.Consistent] takes an API listener and what
// nothing refers to for faults, and its validation does not look into an Any.
func (r *Resources) Check() error {
	c := &closure{names: map[string]map[string]bool{"cluster": {}, "route": {}, "endpoints": {}, "listener": {}}}
	for _, l := range r.Listeners {
		c.add("listener", l.Name, l)
	}
	for _, t := range r.Routes {
		c.add("route", t.Name, t)
	}
	for _, cl := range r.Clusters {
		c.add("cluster", cl.Name, cl)
	}
	for _, e := range r.Endpoints {
		c.add("endpoints", e.ClusterName, e)
	}
	c.follow()
	return errors.Join(c.errs...)
}

// closure collects the resources, and what they refer to.
type closure struct {
	names map[string]map[string]bool
	from  []owner
	errs  []error
}

type owner struct {
	place string
	m     proto.Message
}

func (c *closure) fault(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("envoydialect: "+format, args...))
}

type validated interface{ ValidateAll() error }

func (c *closure) add(kind, name string, m proto.Message) {
	place := kind + " " + name
	if c.names[kind][name] {
		c.fault("there are two resources %s", place)
	}
	c.names[kind][name] = true
	c.from = append(c.from, owner{place, m})
}

func (c *closure) follow() {
	for _, o := range c.from {
		c.message(o.place, o.m)
	}
}

// message validates a message and all messages below it, also those packed into an Any, and follows
// the names in them.
func (c *closure) message(place string, m proto.Message) {
	if v, ok := m.(validated); ok {
		if err := v.ValidateAll(); err != nil {
			c.fault("%s: %w", place, err)
		}
	}
	c.below(place, m)
}

func (c *closure) below(place string, m proto.Message) {
	c.references(place, m)
	if a, ok := m.(*anypb.Any); ok {
		if a.TypeUrl == "" { // it is only there
			return
		}
		inner, err := a.UnmarshalNew()
		if err != nil {
			c.fault("%s: %w", place, err)
			return
		}
		c.message(place, inner)
		return
	}
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				c.below(place, v.Message().Interface())
				return true
			})
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				c.below(place, v.List().Get(i).Message().Interface())
			}
		default:
			c.below(place, v.Message().Interface())
		}
		return true
	})
}

// references follows the names of one message.
func (c *closure) references(place string, m proto.Message) {
	switch m := m.(type) {
	case *hcmv3.Rds:
		c.need(place, "route", m.RouteConfigName)
	case *hcmv3.HttpConnectionManager:
		c.filters(place, m)
	case *routev3.RouteAction:
		if name := m.GetCluster(); name != "" {
			c.need(place, "cluster", name)
		}
	case *corev3.GrpcService_EnvoyGrpc:
		c.need(place, "cluster", m.ClusterName)
	case *corev3.HttpUri:
		c.need(place, "cluster", m.GetCluster())
	case *aggregatev3.ClusterConfig:
		for _, name := range m.Clusters {
			c.need(place, "cluster", name)
		}
	case *clusterv3.Cluster:
		if m.GetType() == clusterv3.Cluster_EDS {
			name := m.GetEdsClusterConfig().GetServiceName()
			if name == "" {
				name = m.Name
			}
			c.need(place, "endpoints", name)
		}
	}
}

func (c *closure) need(place, kind, name string) {
	if !c.names[kind][name] {
		c.fault("%s refers to the %s %q, and there is none", place, kind, name)
	}
}

// filters checks that what routes switch on is in the chain, or Envoy would pass over it.
func (c *closure) filters(place string, m *hcmv3.HttpConnectionManager) {
	there := map[string]bool{}
	for _, f := range m.HttpFilters {
		if there[f.Name] {
			c.fault("%s has two filters %s", place, f.Name)
		}
		there[f.Name] = true
	}
	for _, o := range c.from {
		t, ok := o.m.(*routev3.RouteConfiguration)
		if !ok || t.Name != m.GetRds().GetRouteConfigName() {
			continue
		}
		for _, host := range t.VirtualHosts {
			for _, r := range host.Routes {
				for _, name := range sortedKeys(r.TypedPerFilterConfig) {
					if !there[name] {
						c.fault("route %s: %s has no filter %q", r.Name, place, name)
					}
				}
			}
		}
	}
}

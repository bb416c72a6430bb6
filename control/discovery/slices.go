package discovery

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/control/config"
)

// serviceLabel names the service that an EndpointSlice belongs to.
const serviceLabel = "kubernetes.io/service-name"

// endpointSlice is what is read of an EndpointSlice (discovery.k8s.io/v1).
type endpointSlice struct {
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels"`
	} `json:"metadata"`
	AddressType string          `json:"addressType"` // IPv4, IPv6 or FQDN
	Endpoints   []sliceEndpoint `json:"endpoints"`
	Ports       []slicePort     `json:"ports"`
}

type sliceEndpoint struct {
	Addresses  []string `json:"addresses"`
	Conditions struct {
		Ready       *bool `json:"ready"`
		Terminating *bool `json:"terminating"`
	} `json:"conditions"`
	TargetRef *struct {
		Kind string `json:"kind"`
		UID  string `json:"uid"`
	} `json:"targetRef"`
}

type slicePort struct {
	Name     *string `json:"name"`
	Port     *int    `json:"port"` // nil: all ports
	Protocol *string `json:"protocol"`
}

// usable reports whether requests may go to an endpoint. A condition that is not written is good: ready
// where nobody knows, and not terminating.
func (e *sliceEndpoint) usable() bool {
	ready, terminating := e.Conditions.Ready, e.Conditions.Terminating
	return (ready == nil || *ready) && (terminating == nil || !*terminating) && len(e.Addresses) > 0
}

// portOf returns the number of a port in a slice; false where it has none.
func (s *endpointSlice) portOf(p config.KubernetesPort) (int, bool) {
	for _, have := range s.Ports {
		if have.Protocol != nil && *have.Protocol != "" && *have.Protocol != "TCP" {
			continue
		}
		named := p.Name != "" && have.Name != nil && *have.Name == p.Name
		switch {
		case have.Port == nil && p.Name == "":
			return p.Number, true
		case have.Port == nil:
		case named, p.Name == "" && *have.Port == p.Number:
			return *have.Port, true
		}
	}
	return 0, false
}

// ports shows the ports of a slice.
func (s *endpointSlice) ports() string {
	var list []string
	for _, p := range s.Ports {
		text := ""
		if p.Name != nil && *p.Name != "" {
			text = *p.Name + "="
		}
		if p.Port != nil {
			text += strconv.Itoa(*p.Port)
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

// found is an endpoint of a slice, before those of all slices are merged.
type found struct {
	address netip.Addr
	port    int
}

// merge returns the endpoints of all slices of a service: each address and port once, and of a pod with
// addresses of both families the IPv4 one.
func merge(from *config.EndpointsFrom, all map[string]*endpointSlice) (list []config.Endpoint, note string) {
	k := from.Kubernetes
	host := k.Service + "." + k.Namespace + ".svc"
	list = []config.Endpoint{}
	pods := map[string]found{} // by UID
	add := func(f found) {
		port := strconv.Itoa(f.port)
		e, err := from.Endpoint(net.JoinHostPort(f.address.String(), port), net.JoinHostPort(host, port))
		if err != nil {
			note = err.Error()
			return
		}
		list = append(list, e)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		port, ok := s.portOf(k.Port)
		if !ok {
			if len(s.Endpoints) > 0 {
				note = fmt.Sprintf("the EndpointSlice %s has no TCP port %s (that of the endpoints); it has: %s",
					name, k.Port, s.ports())
			}
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !e.usable() || s.AddressType == "FQDN" {
				continue
			}
			address, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || address.Zone() != "" {
				note = fmt.Sprintf("the EndpointSlice %s has an address that is none: %.60q", name, e.Addresses[0])
				continue
			}
			f := found{address.Unmap(), port}
			if e.TargetRef == nil || e.TargetRef.UID == "" {
				add(f)
				continue
			}
			id := e.TargetRef.Kind + "/" + e.TargetRef.UID + ":" + strconv.Itoa(port)
			if has, ok := pods[id]; !ok || has.address.Is6() && f.address.Is4() {
				pods[id] = f
			}
		}
	}
	for _, f := range pods {
		add(f)
	}
	if len(all) == 0 {
		note = fmt.Sprintf("there is no EndpointSlice of service %s in namespace %s", k.Service, k.Namespace)
	}
	return list, note
}

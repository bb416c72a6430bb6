package kubeapi

import (
	"encoding/json"
	"strconv"
)

// Slice is an EndpointSlice.
type Slice struct {
	Name, Namespace, Service string
	Type                     string // IPv4, IPv6 or FQDN; empty: IPv4
	Ports                    []Port
	Endpoints                []Endpoint
}

// Port is a port of a slice. Name may be empty; Number 0 is all ports.
type Port struct {
	Name     string
	Number   int
	Protocol string // empty: TCP
}

// Endpoint is one of a slice. What is nil is not written.
type Endpoint struct {
	Addresses          []string
	Ready, Terminating *bool
	UID                string // of the pod
	Zone               string
}

// Ready returns endpoints at addresses that are ready, each of its own pod.
func Ready(addresses ...string) []Endpoint {
	yes, no := true, false
	var list []Endpoint
	for _, a := range addresses {
		list = append(list, Endpoint{Addresses: []string{a}, Ready: &yes, Terminating: &no, UID: "pod-" + a})
	}
	return list
}

// encode returns the object as the API has it, at a resource version.
func (s *Slice) encode(version int) json.RawMessage {
	object := map[string]any{
		"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
		"metadata": map[string]any{
			"name": s.Name, "namespace": s.Namespace, "resourceVersion": strconv.Itoa(version),
			"labels":        map[string]string{serviceLabel: s.Service, "other": "label"},
			"managedFields": []any{},
		},
		"addressType": "IPv4", "endpoints": nil, "ports": nil,
	}
	if s.Type != "" {
		object["addressType"] = s.Type
	}
	if s.Endpoints != nil {
		list := []any{}
		for _, e := range s.Endpoints {
			list = append(list, e.object())
		}
		object["endpoints"] = list
	}
	if s.Ports != nil {
		list := []any{}
		for _, p := range s.Ports {
			list = append(list, p.object())
		}
		object["ports"] = list
	}
	return mustEncode(object)
}

func (e *Endpoint) object() map[string]any {
	conditions := map[string]any{"serving": true}
	if e.Ready != nil {
		conditions["ready"] = *e.Ready
	}
	if e.Terminating != nil {
		conditions["terminating"] = *e.Terminating
	}
	o := map[string]any{"addresses": e.Addresses, "conditions": conditions}
	if e.UID != "" {
		o["targetRef"] = map[string]any{"kind": "Pod", "namespace": "n", "name": e.UID, "uid": e.UID}
	}
	if e.Zone != "" {
		o["zone"] = e.Zone
		o["hints"] = map[string]any{"forZones": []any{map[string]any{"name": e.Zone}}}
	}
	return o
}

func (p *Port) object() map[string]any {
	o := map[string]any{"name": p.Name}
	if p.Number > 0 {
		o["port"] = p.Number
	}
	if p.Protocol != "" {
		o["protocol"] = p.Protocol
	}
	return o
}

func mustEncode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts, numbers and lists of them
	}
	return b
}

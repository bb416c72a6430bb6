package upstream

import "time"

// EndpointStatus is how an endpoint is at one address.
type EndpointStatus struct {
	Endpoint string // as it is configured: host and port, or the path of a socket
	Address  string // that connections are made to
	State    EndpointState
	InUse    int // exchanges under way
	Idle     int // connections of HTTP/1.1
	Shared   int // connections of HTTP/2
	// EjectedFor is how long it is still ejected.
	EjectedFor time.Duration
}

// EndpointState is what is known of an endpoint.
type EndpointState string

// The states of an endpoint. Down, Ejected and Unreachable are passed over while there is another one.
const (
	Up          EndpointState = "up"          // it passes its health check
	Down        EndpointState = "down"        // it does not
	Ejected     EndpointState = "ejected"     // too many requests to it have failed in a row
	Unreachable EndpointState = "unreachable" // no connection came about, and its name has other addresses
	Unchecked   EndpointState = "unchecked"   // nothing is known against it
)

// Endpoints returns how the endpoints are, in the order of the settings and of their addresses.
func (s *Service) Endpoints() []EndpointStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	endpoints := s.current.Load().endpoints
	list := make([]EndpointStatus, len(endpoints))
	for i, e := range endpoints {
		p := e.pool.Load()
		list[i] = EndpointStatus{
			Endpoint: e.Address, Address: e.address, State: e.stateLocked(),
			InUse: int(e.inUse.Load()), Idle: p.idle.count(),
		}
		list[i].EjectedFor = s.outliers.left(e, time.Now())
		if p.h2 != nil {
			list[i].Shared = p.h2.count()
		}
	}
	return list
}

func (e *endpoint) stateLocked() EndpointState {
	switch {
	case e.down.Load():
		return Down
	case e.outlier.ejected.Load():
		return Ejected
	case e.cutOff.Load():
		return Unreachable
	case e.passes.Load() && e.watch != nil:
		return Up
	}
	return Unchecked
}

func (h *h2) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

package admin

import (
	"encoding/json"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// Status is the document of /api/status. Each policy adds its own member to it.
type Status struct {
	Build         string              `json:"build"`
	Since         time.Time           `json:"since"`
	Ready         bool                `json:"ready"`
	Reason        string              `json:"reason,omitempty"` // why it is not ready
	Draining      bool                `json:"draining"`
	Addresses     Addresses           `json:"addresses"`
	Configuration ConfigurationStatus `json:"configuration"`
	// Control is where the configuration comes from; nil: not from a control plane.
	Control *source.ControlStatus `json:"control,omitempty"`
	// Discovery is where the endpoints of services come from that are not written, and how that stands.
	Discovery    []discovery.Status  `json:"discovery,omitempty"`
	Store        StoreStatus         `json:"store"`
	Routes       []RouteStatus       `json:"routes"`
	Services     []ServiceStatus     `json:"services"`               // in the order of their names
	Transactions *TransactionsStatus `json:"transactions,omitempty"` // without a coordinator there are none
	Policies     []policy.Status     `json:"-"`
}

// Addresses are those that the gateway listens on; empty where it does not.
type Addresses struct {
	HTTP     string `json:"http"`
	HTTPS    string `json:"https"`
	Admin    string `json:"admin"`
	Probes   string `json:"probes"`
	Branches string `json:"branches"`
	Envoy    string `json:"envoy,omitempty"`
}

// ConfigurationStatus is what is in force, and the fault of what was refused after it.
type ConfigurationStatus struct {
	Version string    `json:"version"`
	Loaded  time.Time `json:"loaded"`
	Files   []string  `json:"files"`
	Fault   string    `json:"fault,omitempty"`
}

// StoreStatus is how the store is.
type StoreStatus struct {
	Up       bool `json:"up"`
	Gateways int  `json:"gateways"` // that share it, this one included
}

// RouteStatus is a route with its filters in their order.
type RouteStatus struct {
	Name    string   `json:"name"`
	Filters []string `json:"filters"`
}

// ServiceStatus is a service with its endpoints.
type ServiceStatus struct {
	Name      string           `json:"name"`
	Endpoints []EndpointStatus `json:"endpoints"`
}

// EndpointStatus is an endpoint at one address.
type EndpointStatus struct {
	Endpoint    string `json:"endpoint"` // as it is configured
	Address     string `json:"address"`
	State       string `json:"state"`       // up, down, ejected, unreachable or unchecked
	InUse       int    `json:"in_use"`      // requests under way
	Connections int    `json:"connections"` // that are kept: idle ones, and those of HTTP/2
	// EjectedFor is how long it is still ejected.
	EjectedFor config.Duration `json:"ejected_for,omitzero"`
}

// TransactionsStatus counts the transactions that are followed.
type TransactionsStatus struct {
	Pending int           `json:"pending"`
	Unknown int           `json:"unknown"` // that the coordinator has lost, and that wait for an operator
	Stuck   []StuckBranch `json:"stuck"`   // the oldest 100
}

// StuckBranch is a call of a step that is repeated in vain.
type StuckBranch struct {
	ID          string    `json:"id"`
	Transaction string    `json:"transaction"`
	Step        string    `json:"step"`
	Op          string    `json:"op"` // do or undo
	Since       time.Time `json:"since"`
	Attempts    int       `json:"attempts"`
	Status      int       `json:"status,omitempty"` // of the last response
}

const stuckShown = 100

// TransactionsOf returns how the transactions stand.
func TransactionsOf(b *transaction.Bridge) *TransactionsStatus {
	s := &TransactionsStatus{Pending: b.Pending(), Unknown: b.Lost(), Stuck: []StuckBranch{}}
	for _, x := range b.Stuck() {
		if len(s.Stuck) == stuckShown {
			break
		}
		s.Stuck = append(s.Stuck, StuckBranch{
			ID: x.GID, Transaction: x.Transaction, Step: x.Step, Op: x.Op, Since: x.Since.UTC(),
			Attempts: x.Attempts, Status: x.Status,
		})
	}
	return s
}

// MarshalJSON writes the members of the policies behind the others.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	b, err := json.Marshal(plain(s))
	if err != nil {
		return nil, err
	}
	b = b[:len(b)-1]
	for _, p := range s.Policies {
		member, err := json.Marshal(p.Member)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(p.Value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(append(b, ','), member...), ':'), value...)
	}
	return append(b, '}'), nil
}

package admin

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/control/config"
	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/source"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transaction"
)

// Status is the document of /api/status. Each policy adds its own member to it: [policy.Breakers] as "breakers" and
// so on. Times are in UTC, to the second; durations are written as in the configuration.
type Status struct {
	Build         string              `json:"build"` // the version of the program
	Since         time.Time           `json:"since"` // the start of the process
	Ready         bool                `json:"ready"`
	Reason        string              `json:"reason,omitempty"` // why it is not ready
	Draining      bool                `json:"draining"`
	Addresses     Addresses           `json:"addresses"`
	Configuration ConfigurationStatus `json:"configuration"`
	// Certificates are those in force, in the order of their settings.
	Certificates []CertificateStatus `json:"certificates,omitempty"`
	// Control is where the configuration comes from; nil: not from a control plane.
	Control *source.ControlStatus `json:"control,omitempty"`
	// Discovery is where the endpoints of services come from that are not written, and how that stands.
	Discovery []discovery.Status `json:"discovery,omitempty"`
	Store     StoreStatus        `json:"store"`
	// Resources are what the process has so much of, by the names of [Resources].
	Resources Resources       `json:"resources"`
	Routes    []RouteStatus   `json:"routes"`
	Services  []ServiceStatus `json:"services"`         // in the order of their names
	Limits    []LimitStatus   `json:"limits,omitempty"` // in the order of their names
	// Coordinator is that of transactions; without one in the configuration there is none, and no transactions.
	Coordinator  *CoordinatorStatus  `json:"coordinator,omitempty"`
	Transactions *TransactionsStatus `json:"transactions,omitempty"`
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

// ConfigurationStatus is what is in force, and the fault of what was refused.
type ConfigurationStatus struct {
	Version string    `json:"version"`
	Loaded  time.Time `json:"loaded"` // when it was put in force
	Files   []string  `json:"files"`
	// Fault is why the newest configuration was refused; empty while the newest is in force.
	Fault string `json:"fault,omitempty"`
	// Refused is the last one that was refused, also when one after it was taken; nil: none was.
	Refused *RefusedStatus `json:"refused,omitempty"`
}

// RefusedStatus is a configuration that was refused.
type RefusedStatus struct {
	At    time.Time `json:"at"`
	Fault string    `json:"fault"`
}

// CertificateStatus is a file of certificates.
type CertificateStatus struct {
	Setting string    `json:"setting"` // that names the file
	Ends    time.Time `json:"ends"`    // of a chain the first one to end, of authorities the last one
}

// The states of a store.
const (
	StoreUp       = "up"
	StoreNoWrites = "no-writes"
	StoreDown     = "down"
)

// StoreStatus is how the store is.
type StoreStatus struct {
	Kind  string    `json:"kind"` // embedded, redis or memory
	Up    bool      `json:"up"`   // it takes reads and writes
	State string    `json:"state"`
	Since time.Time `json:"since"` // it has been in that state
	// Fault is why it does not answer, or takes no writes.
	Fault    string   `json:"fault,omitempty"`
	Gateways int      `json:"gateways"`          // that share it, this one included
	Members  []string `json:"members,omitempty"` // their names: host and what each has drawn at its start
	// Keys are those in it; nil before they are counted.
	Keys *KeysStatus `json:"keys,omitempty"`
}

// KeysStatus counts keys.
type KeysStatus struct {
	Open    int `json:"open"`    // that are not free
	Unknown int `json:"unknown"` // of them: the outcome is not known
	// UnknownSince is when the oldest of those became unknown.
	UnknownSince time.Time `json:"unknown_since,omitzero"`
}

// Resources are what a process has so much of.
type Resources struct {
	RequestsInFlight    ResourceStatus `json:"requests_in_flight"` // listen.maxInFlight
	BufferedBytes       ResourceStatus `json:"buffered_bytes"`     // listen.maxBuffered
	ClientConnections   ResourceStatus `json:"client_connections"` // listen.maxConnections, or what open files allow
	UpstreamConnections ResourceStatus `json:"upstream_connections"`
}

// ResourceStatus is how much of a resource is used.
type ResourceStatus struct {
	Used int64 `json:"used"`
	Max  int64 `json:"max"`
	// Refused is how often there was no more of it, or a client had its share.
	Refused int64 `json:"refused"`
}

// LimitStatus is a limit with its decisions on this gateway since its start.
type LimitStatus struct {
	Name          string `json:"name"`
	Rate          string `json:"rate"`
	Burst         int    `json:"burst,omitempty"`
	Scope         string `json:"scope"` // local or global
	Mode          string `json:"mode"`  // enforce or shadow
	Allowed       int64  `json:"allowed"`
	Refused       int64  `json:"refused"`
	ShadowRefused int64  `json:"shadow_refused"`
	StoreFailures int64  `json:"store_failures"`
}

// CoordinatorStatus is how the coordinator's breaker stands.
type CoordinatorStatus struct {
	Endpoints []string `json:"endpoints"`
	State     string   `json:"state"` // closed, half-open or open
	// While it is not closed:
	Since   time.Time `json:"since,omitzero"`
	Fault   string    `json:"fault,omitempty"`
	Refused uint64    `json:"refused,omitempty"` // calls, since it opened
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
	Untold  int           `json:"untold"`  // ended, and the receiver (notify) was not told yet
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
	s := &TransactionsStatus{Pending: b.Pending(), Unknown: b.Lost(), Untold: b.Untold(), Stuck: []StuckBranch{}}
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

// ParseStatus reads the document of a gateway, which may be of another version. The members of policies are by their
// names, as they came.
func ParseStatus(b []byte) (s Status, policies map[string]json.RawMessage, err error) {
	type plain Status
	if err := json.Unmarshal(b, (*plain)(&s)); err != nil {
		return s, nil, fmt.Errorf("admin: status: %w", err)
	}
	if err := json.Unmarshal(b, &policies); err != nil {
		return s, nil, fmt.Errorf("admin: status: %w", err)
	}
	return s, policies, nil
}

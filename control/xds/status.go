package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/control/discovery"
	"github.com/sluice-gateway/sluice/control/envoydialect"
	"github.com/sluice-gateway/sluice/control/xds/rollout"
)

// Nack is a response that a node has refused.
type Nack struct {
	Node    string    `json:"node"`
	Type    string    `json:"type"`    // of the resources, without its packages
	Version string    `json:"version"` // of the configuration, or of the resources where that is not known
	Message string    `json:"message"`
	Time    time.Time `json:"time"`
}

// Status is the document of /api/status of a control plane.
type Status struct {
	Build         string              `json:"build"`
	Since         time.Time           `json:"since"`
	Ready         bool                `json:"ready"`
	Reason        string              `json:"reason,omitempty"` // why it is not ready
	Draining      bool                `json:"draining"`
	Addresses     Addresses           `json:"addresses"`
	Configuration ConfigurationStatus `json:"configuration"`
	Rollout       RolloutStatus       `json:"rollout"`
	Nodes         []NodeStatus        `json:"nodes"`     // by id
	Nacks         []Nack              `json:"nacks"`     // the last ones, the newest first
	Endpoints     []discovery.Status  `json:"endpoints"` // of services that are discovered
}

// ConfigurationStatus is the last document that was read and compiled, and the fault of one after it.
type ConfigurationStatus struct {
	Version string    `json:"version"`
	Loaded  time.Time `json:"loaded"`
	Files   []string  `json:"files"`
	Fault   string    `json:"fault,omitempty"`
	// Approximations are what Envoys do not do as gateways do.
	Approximations []ApproximationStatus `json:"approximations"`
}

// ApproximationStatus is a policy that an Envoy does not do as a gateway does.
type ApproximationStatus struct {
	Place  string             `json:"place"`
	Policy string             `json:"policy"`
	Level  envoydialect.Level `json:"level"`
	Why    string             `json:"why"`
}

// RolloutStatus is how far the last version has come.
type RolloutStatus struct {
	Phase     rollout.Phase    `json:"phase"`
	Stable    string           `json:"stable,omitempty"`    // absent: not known yet
	Candidate string           `json:"candidate,omitempty"` // that is being tried
	Begun     time.Time        `json:"begun,omitzero"`
	FirstAck  time.Time        `json:"first_ack,omitzero"`
	Until     time.Time        `json:"until,omitzero"` // a canary's end
	Given     int              `json:"given"`          // nodes that were sent the candidate
	Acked     int              `json:"acked"`
	Silent    int              `json:"silent"`
	Canary    LoadStatus       `json:"canary"` // requests of nodes that have the candidate
	Others    LoadStatus       `json:"others"`
	TakenBack *TakenBackStatus `json:"taken_back,omitempty"`
}

// LoadStatus counts requests that nodes have reported.
type LoadStatus struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
}

// TakenBackStatus is why a version was taken back.
type TakenBackStatus struct {
	Version string    `json:"version"`
	Node    string    `json:"node,omitempty"`
	Reason  string    `json:"reason"`
	Time    time.Time `json:"time"`
}

// NodeStatus is one stream of a node.
type NodeStatus struct {
	ID          string    `json:"id"`
	Dialect     string    `json:"dialect"` // sluice or envoy
	Protocol    string    `json:"protocol"`
	Agent       string    `json:"agent"`
	Peer        string    `json:"peer"`
	Certificate string    `json:"certificate,omitempty"`
	Connected   time.Time `json:"connected"`
	Sent        string    `json:"sent,omitempty"`    // the configuration that it is to have
	Version     string    `json:"version,omitempty"` // and the one that it has acknowledged
	Nack        *Nack     `json:"nack,omitempty"`    // its last
	// Requests are those that it has reported on this stream's time.
	Requests LoadStatus `json:"requests"`
}

// nackRing keeps the last NACKs.
type nackRing struct {
	list []Nack
	next int
}

func (r *nackRing) add(n Nack) {
	if len(r.list) < nacksMax {
		r.list = append(r.list, n)
		return
	}
	r.list[r.next] = n
	r.next = (r.next + 1) % nacksMax
}

// newest returns them, the newest first.
func (r *nackRing) newest() []Nack {
	list := append([]Nack{}, r.list[r.next:]...) // never nil: a list in JSON
	list = append(list, r.list[:r.next]...)
	slices.Reverse(list)
	return list
}

// statusLocked fills in what the plane knows. Its caller holds mu.
func (p *plane) statusLocked(s *Status) {
	s.Nacks = p.nacks.newest()
	s.Nodes = make([]NodeStatus, 0, len(p.sessions))
	for session := range p.sessions {
		if session.id == "" || session.loads {
			continue
		}
		n := NodeStatus{
			ID: session.id, Dialect: string(session.dialect), Protocol: "sotw", Agent: session.agent,
			Peer: session.caller.address, Certificate: session.caller.subject,
			Connected: session.opened.UTC().Truncate(time.Second), Sent: session.target, Version: session.version,
			Nack: session.nack, Requests: LoadStatus(session.reported),
		}
		if session.delta {
			n.Protocol = "delta"
		}
		s.Nodes = append(s.Nodes, n)
	}
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return a.Connected.Compare(b.Connected)
	})
	s.Rollout = rolloutStatus(p.rollout)
}

func rolloutStatus(r *rollout.Rollout) RolloutStatus {
	st := r.State()
	out := RolloutStatus{
		Phase: st.Phase, Stable: st.Stable, Candidate: st.Candidate, Begun: st.Begun.UTC(), FirstAck: st.FirstAck.UTC(),
		Until: st.Until.UTC(), Given: st.Given, Acked: st.Acked, Silent: st.Silent,
		Canary: LoadStatus(st.Tried), Others: LoadStatus(st.Others),
	}
	if st.Rejected != nil {
		out.TakenBack = &TakenBackStatus{
			Version: st.Rejected.Version, Node: st.Rejected.Node, Reason: st.Rejected.Reason,
			Time: st.Rejected.At.UTC(),
		}
	}
	return out
}

func sprintf(format string, args []any) string { return fmt.Sprintf(format, args...) }

package config

import (
	"strings"
	"time"
)

// Control is how a control plane serves gateways and Envoys. It is read by `sluice control`; a gateway does not use it.
type Control struct {
	Listen ControlListen     `json:"listen"`
	Nodes  map[string]string `json:"nodes"`
	Canary *Canary           `json:"canary"`
}

func (Control) describe() descriptions {
	return descriptions{
		"": "The control plane: what sluice control serves, and to whom.",
		"Nodes": "Which certificate may be which node. The key is matched with the URIs and DNS names of the " +
			"client's certificate; one * in it stands for a part without / (in a DNS name without a dot). The value " +
			"is a group: the node's id is the value, or begins with it and one of - . / : behind it. With a * in the " +
			"value the id is the value with what the * of the key stands for in its place.",
		"Canary": "A change reaches a share of the nodes first, and the others only if those do well.",
	}
}

// ControlPlane returns the section control, or where it is not written what holds then.
func (c *Config) ControlPlane() Control {
	if c.Control != nil {
		return *c.Control
	}
	var section Control
	section.Listen.setDefaults()
	return section
}

// ControlListen is the address of the discovery service. Paths are absolute after Load.
type ControlListen struct {
	Address  string `json:"address" config:"example=127.0.0.1:18000"`
	Cert     string `json:"cert" config:"file"`
	Key      string `json:"key" config:"file"`
	ClientCA string `json:"clientCA" config:"file"`
}

func (ControlListen) describe() descriptions {
	return descriptions{
		"":         "Where nodes ask for their configuration.",
		"Address":  "host:port of the discovery service (ADS). Anything but loopback needs cert, key and clientCA.",
		"Cert":     "The file of the certificate chain, PEM.",
		"Key":      "The file of the private key, PEM.",
		"ClientCA": "The file of the authorities that the nodes' certificates must come from, PEM.",
	}
}

func (l *ControlListen) setDefaults() { l.Address = "127.0.0.1:18000" }

func (l *ControlListen) check(s site) {
	cert, key, authorities, address := s.at("cert"), s.at("key"), s.at("clientCA"), s.at("address")
	switch {
	case s.written(cert) != s.written(key):
		s.fault(s.firstWritten(cert, key), "cert and key go together")
	case s.written(authorities) && !s.written(cert):
		s.fault(authorities, "clientCA needs cert and key: clients show certificates over TLS only")
	}
	if !s.sound(address) {
		return
	}
	host, _, err := hostPort(l.Address)
	if err == nil && !isLoopback(host) && (l.Cert == "" || l.Key == "" || l.ClientCA == "") {
		s.fault(address, "%s can be reached from other machines: it needs cert, key and clientCA", l.Address)
	}
}

func (c *Control) check(s site) {
	nodes, authorities := s.at("nodes"), s.at("listen", "clientCA")
	switch {
	case !s.sound(nodes, authorities):
	case len(c.Nodes) > 0 && !s.written(authorities):
		s.fault(nodes, "nodes needs listen.clientCA: without certificates nobody can say which node it is")
	case len(c.Nodes) == 0 && s.written(authorities):
		s.fault(authorities, "clientCA needs nodes: they say which certificate may be which node")
	}
	for _, name := range sortedKeys(c.Nodes) {
		s.checkNodes(nodes.to(name), name, c.Nodes[name])
	}
}

// nodeIDMax bounds the id of a node, and so what stands for it.
const nodeIDMax = 256

// checkNodes checks one pair of a name in certificates and the ids that it may have.
func (s site) checkNodes(p path, name, id string) {
	switch {
	case !s.sound(p):
	case name == "" || strings.ContainsFunc(name, notVisible):
		s.fault(p, "%q is not a name in a certificate: a URI such as spiffe://shop/gateway/*, or a DNS name", name)
	case strings.Count(name, "*") > 1:
		s.fault(p, "%q has more than one *", name)
	case id == "" || len(id) > nodeIDMax || strings.ContainsFunc(id, notVisible):
		s.fault(p, "%q is not the id of a node: 1 to %d visible ASCII characters", id, nodeIDMax)
	case strings.Count(id, "*") > 1:
		s.fault(p, "%q has more than one *", id)
	case strings.Contains(id, "*") && !strings.Contains(name, "*"):
		s.fault(p, "the * of %q stands for that of the key, and %q has none", id, name)
	}
}

func notVisible(c rune) bool { return c <= 0x20 || c >= 0x7f }

// Canary is how a change is tried on some of the nodes.
type Canary struct {
	Share  Percent  `json:"share"`
	For    Duration `json:"for" config:"min=1s,max=168h"`
	Errors Percent  `json:"errors"`
}

func (Canary) describe() descriptions {
	return descriptions{
		"Share": "The share of the nodes that a change reaches first, one node of each kind at least.",
		"For": "How long those nodes are watched, from the first that has applied the change, before all others " +
			"get it.",
		"Errors": "The change is taken back when the share of failed requests at those nodes is higher than at the " +
			"others by more than this. Nodes report it (LRS).",
	}
}

func (c *Canary) setDefaults() {
	*c = Canary{Share: 10, For: duration(5 * time.Minute), Errors: 2}
}

func (c *Canary) check(s site) {
	if share := s.at("share"); c.Share == 0 && s.sound(share) {
		s.fault(share, "0%% would try a change on no node; it is more than 0%%")
	}
}

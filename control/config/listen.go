package config

import (
	"net/netip"
	"time"
)

// Listen is how clients reach the gateway.
type Listen struct {
	// HTTP is the address for HTTP/1.1 and cleartext HTTP/2, or [Off]. Where it is not written it is
	// Off beside https, else 127.0.0.1:8080.
	HTTP           string         `json:"http" config:"example=127.0.0.1:8080"`
	HTTPS          *HTTPS         `json:"https"`
	MaxConnections int            `json:"maxConnections" jsonschema:"minimum=1,maximum=1000000"`
	MaxHeader      Size           `json:"maxHeader" config:"min=1KiB,max=1MiB"`
	MaxBody        Size           `json:"maxBody"`
	MaxBuffered    Size           `json:"maxBuffered" config:"min=1MiB,max=1024GiB"`
	HeaderTimeout  Duration       `json:"headerTimeout"`
	IdleTimeout    Duration       `json:"idleTimeout"`
	MinRate        ByteRate       `json:"minRate" config:"max=1MiB/s"` // 0: none
	MaxInFlight    int            `json:"maxInFlight" jsonschema:"minimum=1,maximum=1000000"`
	TrustedProxies []netip.Prefix `json:"trustedProxies"`
	DrainDelay     Duration       `json:"drainDelay" config:"min=0s"`
	ProxyProtocol  []netip.Prefix `json:"proxyProtocol"` // peers that send a PROXY protocol v2 header
}

func (Listen) describe() descriptions {
	return descriptions{
		"": "How clients reach the gateway.",
		"HTTP": "host:port for HTTP/1.1 and cleartext HTTP/2, or off. " +
			"Where only https is written there is no such listener, else it is 127.0.0.1:8080.",
		"HTTPS":          "The TLS listener.",
		"MaxConnections": "Client connections at one time.",
		"MaxHeader":      "The longest header of a request, 1KiB to 1MiB; beyond it 431.",
		"MaxBody":        "The longest body of a request; beyond it 413.",
		"MaxBuffered": "Bytes of bodies, heads and responses that wait in memory, and 24KiB for each request, of all " +
			"requests together; beyond it 503 overloaded. One client gets four fifths of it at most.",
		"HeaderTimeout": "A client that has not sent its header by then is cut off.",
		"IdleTimeout":   "How long an idle connection is kept; also the longest silence within a request's body.",
		"MinRate": "A client that has something to send or to take and moves less, over 30 seconds, is cut off. " +
			"0B/s: however slow it is.",
		"MaxInFlight": "Requests and streams under way, those whose clients have left too; beyond it 503 overloaded. " +
			"One client gets four fifths of it at most, one connection a fifth.",
		"TrustedProxies": "Whose X-Forwarded-* is believed and appended to; from any other peer it is replaced.",
		"DrainDelay":     "At SIGTERM: unready at once, go on accepting for so long, then close the listeners.",
		"ProxyProtocol": "Peers whose connections must begin with a PROXY protocol v2 header; " +
			"from any other none is taken.",
	}
}

func (l *Listen) setDefaults() {
	*l = Listen{
		MaxConnections: 20000, MaxHeader: 32 << 10, MaxBody: 8 << 20, MaxBuffered: 256 << 20,
		HeaderTimeout: duration(5 * time.Second), IdleTimeout: duration(75 * time.Second),
		MinRate: 256, MaxInFlight: 10000,
	}
}

// Off in place of an address is no listener.
const Off = "off"

func (l *Listen) derive(*files) {
	switch {
	case l.HTTP != "":
	case l.HTTPS != nil:
		l.HTTP = Off // who writes only https wants no cleartext
	default:
		l.HTTP = "127.0.0.1:8080"
	}
}

// warn tells of a body that is taken and can never be kept: one client has a part of what there is,
// and a body whose length was not announced is there twice for a moment.
func (l *Listen) warn(s site) {
	if l.MaxBody <= l.MaxBuffered/2 {
		return
	}
	at := s.at("maxBody")
	if !s.written(at) {
		at = s.at("maxBuffered")
	}
	s.warn(at, "maxBody %s is more than half of maxBuffered %s: routes that keep bodies refuse the longest as "+
		"overloaded", l.MaxBody, l.MaxBuffered)
}

// HTTPS is the TLS listener. Paths are absolute after Load.
type HTTPS struct {
	Address  string `json:"address" jsonschema:"required" config:"example=0.0.0.0:8443"`
	Cert     string `json:"cert" jsonschema:"required" config:"file"`
	Key      string `json:"key" jsonschema:"required" config:"file"`
	ClientCA string `json:"clientCA" config:"file"`
}

func (HTTPS) describe() descriptions {
	return descriptions{
		"Address":  "host:port.",
		"Cert":     "The file of the certificate chain, PEM.",
		"Key":      "The file of the private key, PEM.",
		"ClientCA": "The file of the authorities that client certificates must come from, PEM.",
	}
}

// checkListeners checks the listeners' addresses, and that no two need the same port.
func (s site) checkListeners(c *Config) {
	type listener struct {
		at         path
		host, port string
	}
	var seen []listener
	add := func(address string, p path) {
		host, port, err := hostPort(address)
		if err != nil {
			s.fault(p, "%q is not an address to listen on such as 127.0.0.1:8080: %v", address, err)
			return
		}
		for _, other := range seen {
			same := host == other.host || anyHost(host) || anyHost(other.host)
			if port != "0" && port == other.port && same && s.sound(p, other.at) {
				s.fault(p, "%s is taken by %s", address, s.root.find(other.at...).name())
				return
			}
		}
		seen = append(seen, listener{p, host, port})
	}
	http := at("listen", "http")
	switch l := s.root.find(http...); {
	case l.node != nil && l.node.scalar == "":
		s.fault(http, "is empty: write host:port, or off for no listener without TLS")
	case c.Listen.HTTP != Off:
		add(c.Listen.HTTP, http)
	case c.Listen.HTTPS == nil && s.sound(at("listen", "https")):
		s.fault(http, "is off and there is no listen.https: no client could reach the gateway")
	}
	if c.Listen.HTTPS != nil {
		add(c.Listen.HTTPS.Address, at("listen", "https", "address"))
	}
	add(c.Admin.Address, at("admin", "address"))
	if probes := at("admin", "probes"); s.written(probes) {
		add(c.Admin.Probes, probes)
	}
	if envoy := at("envoy", "listen", "address"); s.written(envoy) {
		add(c.Envoy.Listen.Address, envoy)
	}
	if c.Coordinator != nil {
		branches := at("coordinator", "dtm", "branches")
		if listen := branches.to("listen"); s.written(listen) {
			branches = listen
		}
		add(c.Coordinator.DTM.Branches.Listen, branches)
	}
	if c.Control != nil {
		add(c.Control.Listen.Address, at("control", "listen", "address"))
	}
}

func anyHost(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

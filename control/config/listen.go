package config

import (
	"net/netip"
	"time"
)

// Listen is how clients reach the gateway.
type Listen struct {
	HTTP           string         `json:"http" config:"example=127.0.0.1:8080"` // HTTP/1.1 and cleartext HTTP/2
	HTTPS          *HTTPS         `json:"https"`
	MaxConnections int            `json:"maxConnections" jsonschema:"minimum=1,maximum=1000000"`
	MaxHeader      Size           `json:"maxHeader" config:"min=1KiB,max=1MiB"`
	MaxBody        Size           `json:"maxBody"`
	HeaderTimeout  Duration       `json:"headerTimeout"`
	IdleTimeout    Duration       `json:"idleTimeout"`
	TrustedProxies []netip.Prefix `json:"trustedProxies"`
	DrainDelay     Duration       `json:"drainDelay" config:"min=0s"`
	ProxyProtocol  []netip.Prefix `json:"proxyProtocol"` // peers that send a PROXY protocol v2 header
}

func (Listen) describe() descriptions {
	return descriptions{
		"":               "How clients reach the gateway.",
		"HTTP":           "host:port for HTTP/1.1 and cleartext HTTP/2.",
		"HTTPS":          "The TLS listener.",
		"MaxConnections": "Client connections at one time.",
		"MaxHeader":      "The longest header of a request, 1KiB to 1MiB; beyond it 431.",
		"MaxBody":        "The longest body of a request; beyond it 413.",
		"HeaderTimeout":  "A client that has not sent its header by then is cut off.",
		"IdleTimeout":    "How long an idle connection is kept.",
		"TrustedProxies": "Whose X-Forwarded-* is believed and appended to; from any other peer it is replaced.",
		"DrainDelay":     "At SIGTERM: unready at once, go on accepting for so long, then close the listeners.",
		"ProxyProtocol": "Peers whose connections must begin with a PROXY protocol v2 header; " +
			"from any other none is taken.",
	}
}

func (l *Listen) setDefaults() {
	*l = Listen{
		HTTP: "127.0.0.1:8080", MaxConnections: 20000, MaxHeader: 32 << 10, MaxBody: 8 << 20,
		HeaderTimeout: duration(5 * time.Second), IdleTimeout: duration(75 * time.Second),
	}
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
				s.fault(p, "%s is taken by %s", address, s.root.find(other.at...).name)
				return
			}
		}
		seen = append(seen, listener{p, host, port})
	}
	add(c.Listen.HTTP, at("listen", "http"))
	if c.Listen.HTTPS != nil {
		add(c.Listen.HTTPS.Address, at("listen", "https", "address"))
	}
	add(c.Admin.Address, at("admin", "address"))
	if c.Coordinator != nil {
		add(c.Coordinator.DTM.Branches, at("coordinator", "dtm", "branches"))
	}
}

func anyHost(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

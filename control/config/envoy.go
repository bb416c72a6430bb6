package config

import "strings"

// Envoy is `sluice envoy`: the policies as gRPC services for Envoy. A gateway that takes clients' requests itself
// reads nothing of it.
type Envoy struct {
	Listen EnvoyListen `json:"listen"`
	// Advertise is host:port where Envoys find the services; the address that is listened on, where it is not written.
	Advertise string `json:"advertise" config:"example=sluice-envoy.internal:18001"`
	// Client is what Envoys show the services; nil: nothing, as without envoy.listen.clientCA.
	Client *EnvoyClient `json:"client"`
	// Gateway is host:port where Envoys find a gateway that serves the routes of transactions; empty: none does.
	Gateway string `json:"gateway" config:"example=gateway.internal:8080"`
}

func (Envoy) describe() descriptions {
	return descriptions{
		"": "The policies as gRPC services for Envoy, ext_proc and rate limits: what `sluice envoy` serves.",
		"Advertise": "host:port where Envoys find the services, for the configuration that `sluice control` sends " +
			"them; " +
			"without it the address that is listened on.",
		"Client": "The certificate that Envoys show the services, where envoy.listen has one.",
		"Gateway": "host:port of a gateway that Envoys pass the requests of transactions on to; without it they " +
			"refuse them.",
	}
}

func (e *Envoy) derive(*files) {
	if e.Advertise == "" {
		e.Advertise = e.Listen.Address
	}
}

func (e *Envoy) check(s site) {
	s.reachable(e.Advertise, s.at("advertise"))
	s.reachable(e.Gateway, s.at("gateway"))
}

// reachable checks an address that an Envoy connects to, where one is written.
func (s site) reachable(address string, at path) {
	if !s.written(at) {
		return
	}
	if host, port, err := hostPort(address); err != nil {
		s.fault(at, "%q is not host:port: %v", address, err)
	} else if anyHost(host) || port == "0" {
		s.fault(at, "%q is not an address that an Envoy could connect to", address)
	}
}

// EnvoyClient is how an Envoy shows itself to the services. The files are those of Envoy's machine, and read there.
type EnvoyClient struct {
	Cert string `json:"cert" jsonschema:"required"`
	Key  string `json:"key" jsonschema:"required"`
	CA   string `json:"ca" jsonschema:"required"`
}

func (EnvoyClient) describe() descriptions {
	return descriptions{
		"Cert": "The file of Envoy's certificate chain, PEM: an absolute path on the machine of each Envoy.",
		"Key":  "The file of its private key, PEM, there.",
		"CA":   "The file of the authorities that the certificate of the services must come from, PEM, there.",
	}
}

func (c *EnvoyClient) check(s site) {
	for key, file := range map[string]string{"cert": c.Cert, "key": c.Key, "ca": c.CA} {
		if s.written(s.at(key)) && !strings.HasPrefix(file, "/") {
			s.fault(s.at(key), "%q is a file of Envoy's machine: its absolute path is wanted", file)
		}
	}
}

// EnvoyListen is where Envoys connect to. Paths are absolute after Load.
type EnvoyListen struct {
	Address  string `json:"address" config:"example=127.0.0.1:18001"`
	Cert     string `json:"cert" config:"file"`
	Key      string `json:"key" config:"file"`
	ClientCA string `json:"clientCA" config:"file"`
}

func (EnvoyListen) describe() descriptions {
	return descriptions{
		"": "Where Envoys connect to. Whoever can connect can claim keys and record responses as any principal, so " +
			"anything but loopback needs certificates on both sides.",
		"Address":  "host:port; anything but loopback needs cert, key and clientCA.",
		"Cert":     "The file of the certificate chain, PEM.",
		"Key":      "The file of the private key, PEM.",
		"ClientCA": "The file of the authorities that the certificates of Envoys must come from, PEM.",
	}
}

func (l *EnvoyListen) setDefaults() { l.Address = "127.0.0.1:18001" }

func (l *EnvoyListen) check(s site) {
	for _, pair := range [...]struct{ has, needs, name, missing string }{
		{l.Cert, l.Key, "cert", "key"}, {l.Key, l.Cert, "key", "cert"}, {l.ClientCA, l.Cert, "clientCA", "cert"},
	} {
		if pair.has != "" && pair.needs == "" && !s.written(s.at(pair.missing)) {
			s.fault(s.at(pair.name), "is of no use without %s", pair.missing)
		}
	}
	host, _, err := hostPort(l.Address)
	switch {
	case err != nil: // said where all listeners are checked
	case !isLoopback(host) && (l.Cert == "" || l.Key == "" || l.ClientCA == ""):
		s.fault(s.at("address"), "%s can be reached from other machines: it needs cert, key and clientCA, since "+
			"whoever "+
			"connects can claim keys and record responses", l.Address)
	}
}

// Secured reports whether connections are encrypted, and made by those only who have a certificate.
func (l *EnvoyListen) Secured() bool { return l.Cert != "" }

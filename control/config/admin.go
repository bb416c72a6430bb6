package config

import (
	"net/netip"
	"strings"
)

// Admin is the operators' address.
type Admin struct {
	Address string   `json:"address" config:"example=127.0.0.1:9901"`
	Token   string   `json:"token" config:"secret"` // empty: none is asked for
	Hosts   []string `json:"hosts" jsonschema:"uniqueItems=true"`
	Probes  string   `json:"probes" config:"example=0.0.0.0:9902"` // empty: no such listener
	PProf   bool     `json:"pprof"`                                // serve /debug/pprof/ there
	// ReadyNeedsStore: /readyz fails while the store does, and not only until it was reached once.
	ReadyNeedsStore bool `json:"readyNeedsStore"`
}

func (Admin) describe() descriptions {
	return descriptions{
		"":        "The operators' address.",
		"Address": "host:port for health, metrics, status and record operations; anything but loopback needs a token.",
		"Token": "Asked of everything but health and metrics, as Authorization: Bearer; " +
			"set it with ${env:NAME} or ${file:PATH}.",
		"Hosts": "Names that the address is called by, beside IP addresses and localhost; any other Host is 421.",
		"Probes": "host:port of a second listener with /healthz, /readyz and /metrics and nothing else, " +
			"without a token.",
		"ReadyNeedsStore": "Unready whenever the store fails. Without it a store that fails after the start shows in " +
			"status and metrics: else one fault takes the whole fleet out of its balancer.",
		"PProf": "Serve Go's profiles below /debug/pprof/. " +
			"They show what the gateway does, and cost while they are taken.",
	}
}

func (a *Admin) setDefaults() { a.Address = "127.0.0.1:9901" }

func (a *Admin) check(s site) {
	token := s.at("token")
	notInToken := func(c rune) bool { return c <= 0x20 || c >= 0x7f }
	switch {
	case s.written(token) && a.Token == "":
		s.fault(token, "is empty")
	case strings.ContainsFunc(a.Token, notInToken):
		s.fault(token, "has a character that is not visible ASCII, and no header field can carry it")
	}
	if host, _, err := hostPort(a.Address); err == nil && !s.written(token) && !isLoopback(host) {
		s.fault(s.at("address"), "%s can be reached from other machines: it needs a token (admin.token); "+
			"for health and metrics alone there is admin.probes", a.Address)
	}
	for i, name := range a.Hosts {
		if !soundHost(name, false) {
			s.fault(s.at("hosts").item(i), "%q is not a host's name without a port", name)
		}
	}
}

// tokenMin is how many characters a token has that nobody guesses.
const tokenMin = 16

func (a *Admin) warn(s site) {
	if a.Token != "" && len(a.Token) < tokenMin {
		s.warn(s.at("token"), "is short enough to be guessed: %d characters or more are not", tokenMin)
	}
}

// isLoopback reports whether a host to listen on is reached from this machine only.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

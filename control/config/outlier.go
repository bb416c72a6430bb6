package config

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// Outlier ejects endpoints that fail: they are passed over for a while.
type Outlier struct {
	Errors int      `json:"errors" jsonschema:"minimum=1,maximum=10000"`
	Eject  Duration `json:"eject" config:"max=24h"`
	Max    Percent  `json:"max"`
}

func (Outlier) describe() descriptions {
	return descriptions{
		"": "Passes over endpoints that fail.",
		"Errors": "How many requests in a row have to fail: no connection, a connection that breaks, a timeout, a " +
			"status of 500 and above, or one of gRPC that says that the service failed.",
		"Eject": "For how long; the nth time in a row n times as long, at most ten times, and up to a fifth longer " +
			"by chance.",
		"Max": "The share of the endpoints that may be ejected at once; never all of them.",
	}
}

func (o *Outlier) setDefaults() { *o = Outlier{Errors: 5, Eject: duration(30 * time.Second), Max: 50} }

func (o *Outlier) check(s site) {
	if o.Max == 0 {
		s.fault(s.at("max"), "0%% would never eject an endpoint; it is more than 0%%")
	}
}

// warn tells of a share that is none of the endpoints. How many addresses a name has is not known.
func (o *Outlier) warn(s site) {
	if s.config == nil {
		return
	}
	service := s.config.Services[s.path[len(s.path)-2]]
	endpoints := service.ParsedEndpoints()
	n := len(endpoints)
	switch {
	case service.EndpointsFrom != nil:
	case slices.ContainsFunc(endpoints, namesHost):
	case n == 1:
		s.checker.warn(s.path, "ejects nothing: the service has one endpoint")
	case int(o.Max.Share()*float64(n)+1e-9) == 0:
		s.checker.warn(s.path, "ejects nothing: %s of %d endpoints is less than one", o.Max, n)
	}
}

// namesHost reports whether an endpoint is a name, which may have several addresses.
func namesHost(e Endpoint) bool {
	if e.Network != "tcp" {
		return false
	}
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

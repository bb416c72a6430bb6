package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Endpoint is one instance of a service, as a connection to it is made.
type Endpoint struct {
	Network string // tcp | unix
	Address string // host:port, or the absolute path of the socket
	Host    string // the Host of a request whose client sent none
	TLS     bool   // verified as Service.TLS says
	HTTP2   bool   // cleartext HTTP/2 with prior knowledge (RFC 9113 §3.3); else HTTP/1.1, or with TLS what it chooses
}

// ParsedEndpoints returns the endpoints in their order. A faulty one is left out; [Load] lets none through.
func (s *Service) ParsedEndpoints() []Endpoint {
	list := make([]Endpoint, 0, len(s.Endpoints))
	for _, written := range s.Endpoints {
		if e, err := parseEndpoint(written); err == nil {
			list = append(list, e)
		}
	}
	return list
}

const (
	socketPrefix = "unix:"
	socketMax    = 107 // bytes of a path in Linux's sockaddr_un, less the one that ends it
	nameMax      = 253 // bytes of a host name, RFC 1035 §2.3.4 without the root's dot
)

// endpointPorts are the schemes over TCP, each with the port where none is written.
var endpointPorts = map[string]string{"http": "80", "h2c": "80", "https": "443"}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

var errNoEndpoint = errors.New("is not an endpoint such as http://127.0.0.1:7001")

// parseEndpoint reads http://host[:port], h2c://host[:port], https://host[:port] or unix:///path. The error goes on
// from the value.
func parseEndpoint(s string) (Endpoint, error) {
	if path, ok := strings.CutPrefix(s, socketPrefix); ok {
		return parseSocket(path)
	}
	u, err := url.Parse(s)
	if err != nil {
		return Endpoint{}, errNoEndpoint
	}
	port, known := endpointPorts[u.Scheme]
	switch {
	case !known && u.Scheme != "" && u.Host != "":
		return Endpoint{}, fmt.Errorf("%w: the scheme is http, https, h2c or unix", errNoEndpoint)
	case !known || u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return Endpoint{}, errNoEndpoint
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return Endpoint{}, fmt.Errorf("%w: host and port only", errNoEndpoint)
	case u.Path != "":
		return Endpoint{}, fmt.Errorf("%w: a path is not part of it", errNoEndpoint)
	case u.Port() != "" && (!soundPort(u.Port()) || u.Port() == "0"):
		return Endpoint{}, fmt.Errorf("%w: the port is 1 to 65535", errNoEndpoint)
	case !soundHost(u.Hostname(), strings.HasPrefix(u.Host, "[")):
		return Endpoint{}, fmt.Errorf("%w: the host is a name, an IPv4 address or an IPv6 address in brackets, "+
			"without a zone", errNoEndpoint)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return Endpoint{
		Network: "tcp", Address: net.JoinHostPort(u.Hostname(), port), Host: u.Host,
		TLS: u.Scheme == "https", HTTP2: u.Scheme == "h2c",
	}, nil
}

// soundHost reports whether a host can be dialled and stand in a Host field as it is. In brackets it is an IPv6
// address.
func soundHost(host string, brackets bool) bool {
	if brackets {
		a, err := netip.ParseAddr(host)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	return len(host) <= nameMax && hostForm.MatchString(host)
}

func notInSocket(r rune) bool { return r < 0x20 || r == 0x7f || strings.ContainsRune("?#%", r) }

// parseSocket reads what stands behind unix: of an endpoint.
func parseSocket(path string) (Endpoint, error) {
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = rest
	}
	switch {
	case !strings.HasPrefix(path, "/") || path == "/":
		return Endpoint{}, errors.New("is not a socket such as unix:///run/app.sock, " +
			"or unix:app.sock in the configuration's folder")
	case strings.ContainsFunc(path, notInSocket):
		return Endpoint{}, errors.New("is a socket, whose path has no ?, #, % and no control character")
	case len(path) > socketMax:
		return Endpoint{}, fmt.Errorf("is a socket whose path has %d bytes, at most %d can be connected to",
			len(path), socketMax)
	}
	return Endpoint{Network: "unix", Address: path, Host: "localhost"}, nil
}

// endpoint makes the path of a socket absolute; any other endpoint stays as it is, and so does what is no path: the
// check refuses it.
func (f *files) endpoint(endpoint string) string {
	path, ok := strings.CutPrefix(endpoint, socketPrefix)
	if !ok || path == "" {
		return endpoint
	}
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") { // a host, as URLs have one there
			return endpoint
		}
		path = rest
	}
	return socketPrefix + "//" + f.absolute(path)
}

// IsHostName reports whether a text can be the name of an endpoint's host.
func IsHostName(host string) bool { return soundHost(host, false) }

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/sluice-gateway/sluice/gateway/message"
)

// Cause is why a service gave no response, for whoever operates the gateway.
type Cause struct {
	Code string // the same for all failures of that kind; "other" for those that have no words here
	Text string // what it means, and which setting it has to do with
}

// Explain says in an operator's words why Send failed, or a body broke. endpoint is the address that it went to, ""
// when it is not known.
func (s *Service) Explain(err error, endpoint string) Cause {
	e := s.explained(endpoint)
	for _, explain := range [...]func(error, *explainedEndpoint) Cause{
		explainProtocol, explainCertificate, explainConnect, explainName, explainExchange,
	} {
		if c := explain(err, e); c.Code != "" {
			return c
		}
	}
	return Cause{"other", "the service gave no response"}
}

// explainedEndpoint is what the words for a failure depend on.
type explainedEndpoint struct {
	service, scheme, network string
	connectTimeout, timeout  fmt.Stringer
}

// setting names a setting of the service.
func (e *explainedEndpoint) setting(name string) string { return "services." + e.service + "." + name }

func (s *Service) explained(address string) *explainedEndpoint {
	c := s.current.Load()
	x := &explainedEndpoint{service: s.Name(), scheme: "its scheme", network: "tcp",
		connectTimeout: c.settings.ConnectTimeout, timeout: c.settings.Timeout}
	for _, e := range c.endpoints {
		if e.address != address && e.Address != address {
			continue
		}
		x.network = e.Network
		switch {
		case e.Network == "unix":
			x.scheme = "unix:"
		case e.TLS:
			x.scheme = "https://"
		case e.HTTP2:
			x.scheme = "h2c://"
		default:
			x.scheme = "http://"
		}
		return x
	}
	return x
}

// explainProtocol: the service speaks, and not what the endpoint says.
func explainProtocol(err error, e *explainedEndpoint) Cause {
	var other *message.OtherProtocol
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return Cause{"service-without-tls", "the service does not speak TLS and the endpoint says " + e.scheme}
	case !errors.As(err, &other):
		return Cause{}
	case other.Speaks == message.SpeaksTLS:
		return Cause{"service-speaks-tls", "the service speaks TLS and the endpoint says " + e.scheme}
	case other.Speaks == message.SpeaksHTTP1:
		return Cause{"service-speaks-http1", "the service speaks HTTP/1.1 and the endpoint says " + e.scheme +
			", which is HTTP/2"}
	}
	return Cause{"service-speaks-http2", "the service speaks HTTP/2 and the endpoint says " + e.scheme +
		"; h2c:// is HTTP/2 without TLS"}
}

// explainCertificate: TLS has failed for one of the certificates.
func explainCertificate(err error, e *explainedEndpoint) Cause {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var alert tls.AlertError
	switch {
	case errors.As(err, &unknown):
		return Cause{"certificate-unknown-authority", "the service's certificate is signed by an authority that is " +
			"not known; " + e.setting("tls.ca") + " names those that are trusted"}
	case errors.As(err, &name):
		return Cause{"certificate-wrong-name", "the service's certificate is for another name: " + name.Error() + "; " +
			e.setting("tls.serverName") + " is the name that is asked for"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return Cause{"certificate-expired", "the service's certificate has expired or is not valid yet"}
	case errors.As(err, &invalid):
		return Cause{"certificate-invalid", "the service's certificate is not good: " + invalid.Error()}
	}
	var op *net.OpError // a remote alert comes as one
	switch {
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
	case strings.Contains(err.Error(), "tls: "):
		return Cause{"tls-failed", "the handshake of TLS with the service failed"}
	default:
		return Cause{}
	}
	if strings.Contains(err.Error(), "certificate") {
		return Cause{"certificate-refused", "the service does not take this gateway's certificate, or wants one: " +
			e.setting("tls.cert")}
	}
	return Cause{"tls-refused", "the service ended the handshake of TLS"}
}

// explainConnect: no connection came about.
func explainConnect(err error, e *explainedEndpoint) Cause {
	if asConnectError(err) == nil {
		return Cause{}
	}
	var timeout net.Error
	switch {
	case e.network == "unix" && errors.Is(err, fs.ErrNotExist):
		return Cause{"socket-missing", "there is no such socket: the service does not run, or its socket is elsewhere"}
	case errors.Is(err, syscall.ECONNREFUSED) && e.network == "unix":
		return Cause{"connection-refused", "nothing listens at the socket: the service does not run"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Cause{"connection-refused", "the connection was refused: nothing listens at that address and port"}
	case errors.Is(err, fs.ErrPermission):
		return Cause{"connection-forbidden", "this gateway may not connect there: the permissions of a socket, or a " +
			"firewall of this machine"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Cause{"host-unreachable", "no way leads to that address"}
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return Cause{"connect-timeout", "no connection within " + e.connectTimeout.String() + " (" +
			e.setting("connectTimeout") + "): the host is down, overloaded, or a firewall drops what is sent there"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Cause{"connection-closed", "the service closed the connection before it was ready: it may speak " +
			"another protocol than " + e.scheme}
	}
	return Cause{"not-connected", "no connection came about"}
}

// explainName: there is no address to connect to.
func explainName(err error, e *explainedEndpoint) Cause {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound, errors.Is(err, errNoAddress):
		return Cause{"name-not-found", "DNS knows no address of the endpoint's name"}
	case errors.As(err, &dns), errors.Is(err, errLookup):
		return Cause{"name-lookup-failed", "the endpoint's name could not be looked up: DNS does not answer"}
	case errors.Is(err, errNoEndpoint):
		return Cause{"no-endpoint", "the service has no endpoint: " + e.setting("endpoints")}
	}
	return Cause{}
}

// explainExchange: there was a connection.
func explainExchange(err error, e *explainedEndpoint) Cause {
	switch rule := message.Malformation(err); {
	case rule != "":
		return Cause{"malformed-response", "the service's response is malformed: " + rule}
	case errors.Is(err, ErrExpired):
		return Cause{"no-time-left", "the time that the request had was over before it was sent"}
	case errors.Is(err, ErrDeadline):
		return Cause{"no-time-left", "the request came with less time than " + e.setting("timeout") +
			", and the service did not respond within it"}
	case errors.Is(err, ErrTimeout):
		return Cause{"response-timeout", "the service took the request and did not respond in time (" +
			e.setting("timeout") + ", or that of the route)"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Cause{"connection-reset", "the service reset the connection after something was sent"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Cause{"connection-closed", "the service closed the connection before its response was whole"}
	}
	return Cause{}
}
